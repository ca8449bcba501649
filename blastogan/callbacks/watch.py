"""Watching a run for what can go wrong with it."""

from __future__ import annotations

from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from blastogan.callbacks.checkpoints import checkpoint_folder, is_finite, save_checkpoint
from blastogan.callbacks.growing import as_gan
from blastogan.errors import DivergenceError, UserError
from blastogan.growth import GrowthSchedule


class StopOnDivergence(Callback):
    """Stop when a loss is NaN or infinite, after writing ``diverged.ckpt``.

    ``last.ckpt`` stays as it was before.

    Args:
        schedule: Names the phase.
        every_n_steps: Look every so many steps; a look waits for the device.
    """

    def __init__(self, schedule: GrowthSchedule, every_n_steps: int = 16) -> None:
        if every_n_steps < 1:
            raise UserError(f"every_n_steps is {every_n_steps}: expected 1 or more")
        self.schedule = schedule
        self.every_n_steps = every_n_steps

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Look at the losses and penalties of the step.

        Raises:
            DivergenceError: If one is not finite.
        """
        module = as_gan(pl_module)
        on_time = batch_idx % self.every_n_steps == 0 or module.device.type == "cpu"
        ends_tick = module.images_shown % self.schedule.tick_images == 0
        if not (on_time or ends_tick):
            return
        if is_finite(trainer, outputs):
            return
        path = checkpoint_folder(trainer) / "diverged.ckpt"
        save_checkpoint(trainer, path)
        values = ", ".join(f"{name} {float(value):g}" for name, value in outputs.items())
        before = max(module.images_shown - len(batch["image"]) * trainer.world_size, 0)
        state = self.schedule.at(before)
        raise DivergenceError(
            f"training diverged at step {trainer.global_step // 2} "
            f"({module.images_shown / 1000:.3f} kimg, {state.phase}, alpha {state.alpha:.3f}): "
            f"{values}. Go on from an earlier checkpoint in "
            f"{path.parent} (into a new --run_dir, if it is not last.ckpt) with a larger "
            "model.init_args.r1_gamma, a smaller learning rate, or full precision "
            f"(--trainer.precision 32). The state is kept in {path.name}."
        )
