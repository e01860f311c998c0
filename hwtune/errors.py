"""The errors that hwtune raises on purpose.

HwtuneError                 a user's mistake: one line with the value and the remedy, exit code 2
├── SpaceError              a search space, a hyperparameter, or a config that cannot be built
│   └── MisfitError         values that are right alone and make no network together
│       └── NoPixelError    strides and poolings leave nothing of the image
├── DataError               a data set that is unknown, absent, damaged or unfit for what was asked
├── OptionError             what was asked for cannot be, or not together, or lacks a package
├── StudyError              a study folder that is absent, taken, locked or not writable
├── MirrorError             a place to mirror to that holds something else, or does not read
└── ClusterError            a Ray cluster that does not answer, or is not the one asked for
HwtuneFailure               not the user's mistake: one line all the same, exit code 1
├── DownloadFailure         a data set did not arrive
├── ClusterFailure          Ray does not start on this machine
└── NoneTrained             no training of what would be tested first ended well
TrainingDiverged            a loss is not finite: a trial reports it, a retraining fails
Halt                        the files cannot be written: ends a search (hwtune.search.halt)
"""

FAILED, MISTAKEN, INTERRUPTED = 1, 2, 130  # exit codes


class HwtuneError(Exception):
    """A user's mistake; its text names the value and the remedy in one line."""


class SpaceError(HwtuneError):
    """A search space, a hyperparameter or a configuration is wrong."""


class MisfitError(SpaceError):
    """Values that are right alone make no network together."""


class NoPixelError(MisfitError):
    """A configuration shrinks the image to nothing."""


class DataError(HwtuneError):
    """A data set is unknown, absent, damaged or unfit."""


class OptionError(HwtuneError):
    """An option or argument cannot be followed, not with the others, or not without a package."""


class StudyError(HwtuneError):
    """A study's folder is absent, taken, locked or not writable."""


class MirrorError(HwtuneError):
    """A place to mirror to holds something else, or does not read."""


class ClusterError(HwtuneError):
    """A Ray cluster does not answer, or is not the one that was asked for."""


class HwtuneFailure(Exception):
    """Something failed that the user did not cause; its text is one line."""


class DownloadFailure(HwtuneFailure):
    """A data set did not arrive."""


class ClusterFailure(HwtuneFailure):
    """Ray does not start on this machine."""


class NoneTrained(HwtuneFailure):
    """No training of the configuration that would be tested first ended well."""


NO_CLUSTER = (ClusterError, ClusterFailure)  # nothing was begun yet


class TrainingDiverged(Exception):
    """The training loss of an epoch is not finite."""
