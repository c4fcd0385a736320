"""What a search tries next: Optuna's TPE over fusion, tuning and step size. Knows no run and no clock.

Bergstra et al., "Algorithms for Hyper-Parameter Optimization", NeurIPS 2011.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.samplers import TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from mmapp.choices import names_in
from mmapp.errors import SettingsError
from mmapp.models.tuning import usual_rates
from mmapp.settings import SearchSettings, TrainSettings

# The step sizes tried reach half a decade to either side of the usual one.
REACH = 10**0.5
# Trials drawn at random before earlier ones are learnt from; Optuna's ten outlast a short search.
AT_RANDOM = 4

optuna.logging.set_verbosity(optuna.logging.WARNING)


class Proposer:
    """Proposals by number, and what became of them, kept in a journal on disk.

    Each is drawn anew from the seed, its number and what was learnt so far: a search that was
    interrupted proposes what it would have proposed.

    Args:
        folder: keeps the journal.
        wanted: what may be tried.
        settings: where the search begins, and its first proposal.

    Raises:
        SettingsError: an unknown name, or fusions and tunings of which each pair excludes each other.
    """

    def __init__(self, folder: Path, wanted: SearchSettings, settings: TrainSettings) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.settings = settings
        self.study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(folder / "study.journal"))),
            study_name="search",
            direction="minimize" if settings.watch == "loss" else "maximize",
            load_if_exists=True,
        )
        pairs = possible(wanted, settings)
        self.space = {
            "pair": CategoricalDistribution(pairs),
            "factor": FloatDistribution(1 / REACH, REACH, log=True),
        }
        self.study.enqueue_trial({"pair": pairs[0], "factor": 1.0}, skip_if_exists=True)

    def next(self) -> tuple[int, TrainSettings]:
        """A trial's number, from 1 on, and its settings. One begun and not ended comes again."""
        for trial in self.study.get_trials(states=[TrialState.RUNNING]):
            if trial.params.keys() == self.space.keys():
                return trial.number + 1, self._settings(trial.params)
            self.learn(trial.number + 1, None)  # a kill came while it was being drawn
        seed = (self.settings.seed + len(self.study.trials)) % 2**32
        self.study.sampler = TPESampler(seed=seed, n_startup_trials=AT_RANDOM)
        asked = self.study.ask(self.space)
        return asked.number + 1, self._settings(asked.params)

    def learn(self, number: int, score: float | None) -> None:
        """What a trial came to; None for no result."""
        if score is None:
            self.study.tell(number - 1, state=TrialState.FAIL)
        else:
            self.study.tell(number - 1, score)

    def _settings(self, params: dict[str, Any]) -> TrainSettings:
        fusion, tuning = params["pair"].split()
        chosen = self.settings.replace(fusion=fusion, tuning=tuning)
        if params["factor"] == 1.0:
            return chosen
        rest, encoders = (
            min(1.0, float(f"{rate * params['factor']:.3g}")) for rate in usual_rates(chosen)
        )
        return chosen.replace(learning_rate=rest, encoder_learning_rate=encoders)


def possible(wanted: SearchSettings, settings: TrainSettings) -> list[str]:
    """ "FUSION TUNING" of all that may be tried; what the settings themselves say comes first.

    Raises SettingsError when each fusion excludes each tuning.
    """
    fields = TrainSettings.model_fields
    pairs, refused = [], []
    for fusion in names_in(wanted.fusions or settings.fusion, fields["fusion"], "fusion"):
        for tuning in names_in(wanted.tunings or settings.tuning, fields["tuning"], "tuning"):
            try:
                settings.replace(fusion=fusion, tuning=tuning)
                pairs.append((fusion, tuning))
            except SettingsError as error:
                refused.append(error)
    if not pairs:
        raise refused[0]
    pairs.sort(key=lambda pair: (pair[0] != settings.fusion, pair[1] != settings.tuning))
    return [f"{fusion} {tuning}" for fusion, tuning in pairs]
