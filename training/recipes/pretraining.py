"""Pretraining on bimanual data from many sources (paper section 4.1). Sources of figures: see ``training.recipes.vla``.

Where fine-grained text comes in is contradictory in the sources. PAPER section 4.1: "mixture is applied during
fine-tuning; pretraining uses original instructions". SCRIPT: pretraining runs on mixtures with fine-grained text
(``aloha_multi_FG1_1``, ``rdt_yhq_FG1_1``) and fine-tuning on plain ``robotwin_mix``, whose data has no fine-grained
file. Neither is wired in here: ``fg_raw`` is an option of every recipe. The pretraining recipes follow the scripts
that were run; ``--fg-raw raw`` gives what the paper writes. The scripts' ratio is one of task folders, ours one of
samples.
"""

from __future__ import annotations

from training.recipes.vla import VLARecipe

RDT_GR00T = VLARecipe(
    name="rdt-gr00t",
    framework="gr00t",
    stage="pretraining",
    data="RDT fine-tuning set (296 tasks, 5 of them without fine-grained text)",
    # SCRIPT (RDT): 100k steps. PAPER: the same for both pretrainings.
    steps=100_000,
    # SCRIPT (RDT): 8 per device on 64 devices. PAPER: 8 x 64 A100 = 512.
    global_batch=512,
    batch_per_device=8,
    # SCRIPT (RDT): base 2e-5, vision-language model 1e-5, action head 1e-4.
    learning_rate=2e-5,
    learning_rate_backbone=1e-5,
    learning_rate_head=1e-4,
    # SCRIPT (RDT): 5000 warm-up steps. YAML: cosine_with_min_lr.
    schedule="cosine_with_min_lr",
    warmup_steps=5000,
    # SCRIPT (RDT): data_mix rdt_yhq_FG1_1.
    fg_raw="1:1",
)

RDT_OFT = VLARecipe(
    name="rdt-oft",
    framework="oft",
    stage="pretraining",
    data=RDT_GR00T.data,
    # PAPER: both policies are pretrained alike. No script for this combination was found, so steps, batch and
    # mixture are those of rdt-gr00t, and the rates those that SCRIPT (AlohaMix) gives the same head.
    steps=100_000,
    global_batch=512,
    batch_per_device=8,
    learning_rate=2e-5,
    learning_rate_backbone=1e-5,
    learning_rate_head=1e-4,
    schedule="cosine_with_min_lr",
    warmup_steps=5000,
    fg_raw="1:1",
)

ALOHAMIX_OFT = VLARecipe(
    name="alohamix-oft",
    framework="oft",
    stage="pretraining",
    data="AlohaMix: RDT, RoboCOIN and RoboMIND bimanual sets (588 task folders with, 595 without fine-grained text)",
    # SCRIPT (AlohaMix): 200k steps, of which fine-tuning starts from steps_100000. PAPER: 100k, which we take; the
    # longer schedule is --set steps=200000.
    steps=100_000,
    # SCRIPT (AlohaMix): 4 per device on a number of devices that is not written down. PAPER: 512 together.
    global_batch=512,
    batch_per_device=4,
    # SCRIPT (AlohaMix): base 2e-5, vision-language model 1e-5, action head 1e-4.
    learning_rate=2e-5,
    learning_rate_backbone=1e-5,
    learning_rate_head=1e-4,
    # SCRIPT (AlohaMix): 5000 warm-up steps. YAML: cosine_with_min_lr.
    schedule="cosine_with_min_lr",
    warmup_steps=5000,
    # SCRIPT (AlohaMix): data_mix aloha_multi_FG1_1.
    fg_raw="1:1",
)

PRETRAINING_RECIPES = (RDT_OFT, RDT_GR00T, ALOHAMIX_OFT)
