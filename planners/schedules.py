"""How long and how networks are trained, by what they are trained on."""

from __future__ import annotations

from autospine.core.plan import Budget, Schedule


def schedule_for(budget: Budget) -> Schedule:
    """nnU-Net's schedule on a GPU; on a CPU a short one that still ends with a rate of zero.

    SGD with a momentum of 0.99 needs tens of thousands of steps. Within a few thousand, AdamW learns
    more; its rate falls after every step, because there are few epochs to do it in.
    """
    if budget.device == "cuda":
        return Schedule()
    return Schedule(
        epochs=40,
        steps=50,
        validation_steps=5,
        optimiser="adamw",
        learning_rate=5e-3,
        weight_decay=1e-2,
        decay_every="step",
        warmup_steps=20,
    )
