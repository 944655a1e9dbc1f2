"""What each epoch of a training came to."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EpochFigures:
    """One epoch.

    Attributes
    ----------
    epoch : int
        From 1.
    learning_rate, center_weight : float
        In force.
    loss : float
        Mean over the pictures, as they were while the network learnt from them.
    train_accuracy : float
        Share of them that was right then, cropped and with dropout.
    val_accuracy : float
        Share of the validation pictures that is right after the epoch.
    wfc, cfc : float, optional
        `scoring.feature_convergence` after the epoch, of at most 10,000 training pictures as they are; None where
        it is not defined.
    """

    epoch: int
    learning_rate: float
    center_weight: float
    loss: float
    train_accuracy: float
    val_accuracy: float
    wfc: float | None
    cfc: float | None

    def told(self, n_epochs: int, images_per_s: float) -> str:
        """Return the epoch in one line."""
        convergence = [
            f"{name} {value:.4g}" for name, value in (("WFC", self.wfc), ("CFC", self.cfc)) if value is not None
        ]
        parts = [
            f"loss {self.loss:.4f}",
            f"right {100 * self.train_accuracy:.1f} % of train, {100 * self.val_accuracy:.1f} % of val",
            *convergence,
            f"{images_per_s:,.0f} images/s",
        ]
        return f"epoch {self.epoch}/{n_epochs}: {', '.join(parts)}"
