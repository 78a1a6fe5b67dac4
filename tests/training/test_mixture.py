"""What the mixture promises about every batch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.contracts.policy import PromptSpec
from finevla_runtime.processing.prompt import Prompt, load_tokenizer
from training.data.mixture import Mixture, MixtureSettings
from training.data.tabletop_dataset import TabletopDataset, choice_frames, is_held_out, open_tabletop_dataset
from training.tokenizer import UNKNOWN_ID, build_tokenizer

VIEWS = ("cam_high", "cam_left_wrist", "cam_right_wrist")


@pytest.fixture(scope="module")
def dataset(demos: Path, tmp_path_factory: pytest.TempPathFactory) -> TabletopDataset:
    return open_tabletop_dataset(demos, VIEWS, 2, tmp_path_factory.mktemp("cache"), 1, lambda done, total: None)


def mixture(dataset: TabletopDataset, seed: int = 3, **changes: object) -> Mixture:
    prompt = Prompt(PromptSpec("{instruction}", 48, 0, True), load_tokenizer(build_tokenizer(dataset.texts())))
    chosen = choice_frames(dataset, dataset.store.action, 16)
    return Mixture(dataset, prompt, chosen, replace(MixtureSettings(batch=32), **changes), seed)


def test_a_step_is_drawn_the_same_in_every_process_and_order(dataset: TabletopDataset) -> None:
    one, other = mixture(dataset), mixture(dataset)
    other.draw(0)
    assert np.array_equal(one.draw(7).frames, other.draw(7).frames)
    assert np.array_equal(one.draw(7).tokens, other.draw(7).tokens)
    assert not np.array_equal(one.draw(7).frames, one.draw(8).frames)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_fine_grained_paired_samples_come_with_their_twin(dataset: TabletopDataset, step: int) -> None:
    draw = mixture(dataset, choice_share=0.0).draw(step)
    episodes = [dataset.episodes[i].note for i in dataset.frame_episode[draw.frames]]
    for a in range(0, len(draw.frames), 2):
        assert draw.twins[a] == (draw.fine_grained[a] and episodes[a].family == "colour")
        if draw.twins[a]:
            assert episodes[a].scene_seed == episodes[a + 1].scene_seed
            assert episodes[a].variant != episodes[a + 1].variant
            assert dataset.frame_step[draw.frames[a]] == dataset.frame_step[draw.frames[a + 1]]


@settings(max_examples=8, deadline=None)
@given(st.sampled_from([0.0, 0.2, 1 / 3, 0.5, 0.8, 1.0]), st.integers(0, 99))
def test_the_fine_grained_share_is_the_one_asked_for(dataset: TabletopDataset, share: float, seed: int) -> None:
    drawn = mixture(dataset, seed=seed, fg_share=share)
    flags = np.concatenate([drawn.draw(step).fine_grained for step in range(80)])
    # 1280 independent slots: five standard deviations.
    assert abs(flags.mean() - share) <= 5 * np.sqrt(share * (1 - share) / 1280)


def test_families_are_balanced_whatever_their_number_of_episodes(dataset: TabletopDataset) -> None:
    drawn = mixture(dataset)
    notes = [dataset.episodes[i].note for s in range(60) for i in dataset.frame_episode[drawn.draw(s).frames]]
    assert abs(np.mean([n.family == "colour" for n in notes]) - 0.5) < 0.08


def test_raw_text_goes_with_habitual_demonstrations_only(dataset: TabletopDataset) -> None:
    draw = mixture(dataset, fg_share=0.0).draw(0)
    assert all(dataset.episodes[i].note.habitual for i in dataset.frame_episode[draw.frames])
    everything = mixture(dataset, fg_share=0.0, raw_from="all").draw(0)
    assert not all(dataset.episodes[i].note.habitual for i in dataset.frame_episode[everything.frames])


@settings(max_examples=10, deadline=None)
@given(st.sampled_from([0.0, 0.2, 0.5, 1.0]), st.integers(0, 10_000))
def test_runs_that_differ_in_their_share_see_one_sequence_of_frames(
    dataset: TabletopDataset, share: float, step: int
) -> None:
    one = mixture(dataset, raw_from="same", fg_share=share).draw(step)
    other = mixture(dataset, raw_from="same", fg_share=1 / 3).draw(step)
    assert np.array_equal(one.frames, other.frames)
    assert np.array_equal(one.twins, other.twins)
    assert np.array_equal(one.gain, other.gain)


def test_held_out_scenes_are_never_drawn(dataset: TabletopDataset) -> None:
    drawn = mixture(dataset)
    seeds = {
        dataset.episodes[i].note.scene_seed for s in range(40) for i in dataset.frame_episode[drawn.draw(s).frames]
    }
    assert len(seeds) == 9
    assert not any(is_held_out(seed) for seed in seeds)


def test_word_dropout_spares_the_words_that_tell_variants_apart(dataset: TabletopDataset) -> None:
    prompt = Prompt(PromptSpec("{instruction}", 48, 0, True), load_tokenizer(build_tokenizer(dataset.texts())))
    red, blue = (int(prompt.tokens(colour)[0]) for colour in ("red", "blue"))
    draw = mixture(dataset, word_dropout=1.0, fg_share=1.0).draw(0)
    for frame, tokens in zip(draw.frames, draw.tokens, strict=True):
        note = dataset.episodes[dataset.frame_episode[frame]].note
        kept = set(tokens[(tokens != UNKNOWN_ID) & (tokens != 0)])
        assert kept == ({red} if note.variant == "red" else {blue} if note.variant == "blue" else set())


def test_choice_frames_are_where_twins_look_alike_and_their_labels_part(dataset: TabletopDataset) -> None:
    chosen = choice_frames(dataset, dataset.store.action, 16)
    for frame in np.flatnonzero(chosen):
        assert dataset.episodes[dataset.frame_episode[frame]].note.family == "colour"
        assert dataset.frame_step[frame] < 4
    assert chosen.any()


def test_labels_repeat_the_last_row_of_their_own_episode(dataset: TabletopDataset) -> None:
    episode = dataset.episodes[1]
    rows = dataset.chunk_rows(np.array([episode.first_frame + 2]), 16)[0]
    assert list(rows[:2]) == [episode.first_row + 4, episode.first_row + 5]
    assert set(rows[2:]) == {episode.first_row + 5}


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"batch": 31}, "FV-TRN-006", "even"),
        ({"fg_share": 1.5}, "FV-TRN-006", "1.5"),
        ({"raw_from": "habit"}, "FV-TRN-006", "Did you mean 'habitual'"),
        ({"family_weights": {"color": 2.0}}, "FV-TRN-007", "Did you mean 'colour'"),
    ],
)
def test_impossible_settings_are_refused(
    dataset: TabletopDataset, changes: dict[str, object], code: str, words: str
) -> None:
    with pytest.raises(SetupError, match=words) as caught:
        mixture(dataset, **changes)
    assert caught.value.code == code
