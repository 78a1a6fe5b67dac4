"""Fine-tuning on RoboTwin and on a real robot (paper section 4.1). Sources of figures: see ``training.recipes.vla``.

Fine-tuning starts from pretrained weights: give them with ``--init``. Where fine-grained text comes in is an option
(``fg_raw``); ``training.recipes.pretraining`` says why.
"""

from __future__ import annotations

from training.recipes.vla import VLARecipe

ROBOTWIN_OFT = VLARecipe(
    name="robotwin-oft",
    framework="oft",
    stage="fine-tuning",
    data="RoboTwin 2.0: 50 tasks with 550 demonstrations each",
    # SCRIPT (RoboTwin, OFT): 100k steps, 16 per device on 8 devices.
    steps=100_000,
    global_batch=128,
    batch_per_device=16,
    # SCRIPT (RoboTwin, OFT): base 5e-6, vision-language model 5e-6, action head 5e-5, constant, no warm-up.
    learning_rate=5e-6,
    learning_rate_backbone=5e-6,
    learning_rate_head=5e-5,
    schedule="constant",
    warmup_steps=0,
    # SCRIPT: data_mix robotwin_mix, which has no fine-grained text. PAPER: the mixture belongs here.
    fg_raw="raw",
    # STARVLA: statistics are those of the data of the run, also where weights are given.
    statistics="fit",
)

ROBOTWIN_GR00T = VLARecipe(
    name="robotwin-gr00t",
    framework="gr00t",
    stage="fine-tuning",
    data=ROBOTWIN_OFT.data,
    # SCRIPT (RoboTwin, GR00T): 100k steps, 16 per device on 8 devices.
    steps=100_000,
    global_batch=128,
    batch_per_device=16,
    # SCRIPT (RoboTwin, GR00T): base 2e-5, vision-language model 2e-5, action head 1e-4, 1000 warm-up steps.
    learning_rate=2e-5,
    learning_rate_backbone=2e-5,
    learning_rate_head=1e-4,
    # YAML: cosine_with_min_lr.
    schedule="cosine_with_min_lr",
    warmup_steps=1000,
    # SCRIPT: data_mix robotwin_mix, as above.
    fg_raw="raw",
    # STARVLA: statistics are those of the data of the run, also where weights are given.
    statistics="fit",
)

REAL_ROBOT_OFT = VLARecipe(
    name="real-robot-oft",
    framework="oft",
    stage="fine-tuning",
    data="our guess: the 600 demonstrations of the real robot (mixture lerobot_data_v21_merged_single)",
    # The paper's appendix on fine-tuning (A.2.2) gives settings of inference alone; steps, batch, rates and schedule
    # of the real robot were found nowhere. OURS (a guess): the rates and schedule of robotwin-oft, and 20k steps,
    # because 600 demonstrations are a fiftieth of RoboTwin's.
    steps=20_000,
    global_batch=128,
    batch_per_device=16,
    learning_rate=5e-6,
    learning_rate_backbone=5e-6,
    learning_rate_head=5e-5,
    schedule="constant",
    warmup_steps=0,
    # YAML of that mixture: left and right 7 positions, min_max. That it is the real robot's is our guess.
    joint_mode="min_max",
    gripper_mode="min_max",
    # One merged folder, in which a uniform step is drawn.
    uniform_over="frames",
    # PAPER section 4.1: the mixture is applied during fine-tuning. Of its ratios 1:1 is the plain one.
    fg_raw="1:1",
    statistics="fit",
)

FINETUNING_RECIPES = (ROBOTWIN_OFT, ROBOTWIN_GR00T, REAL_ROBOT_OFT)
