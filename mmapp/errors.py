"""Everything this project raises on purpose, as one tree. Knows nothing of the rest of the house.

    MmappError
    ├── SettingsError        a setting is out of bounds, or two of them contradict each other
    ├── DataError            the data cannot be read as pairs
    │   ├── ArchiveError     the upload is broken, too large or unsafe to unpack
    │   └── ColumnError      no column could be found for the image, the text or the label
    ├── EncoderError         an encoder could not be found or loaded
    ├── CheckpointError      a folder is not a checkpoint, or not one that may be trusted
    ├── RunError             a run folder is taken, missing or not in a state that allows this
    └── TrainingError        training itself cannot go on (loss not a number, nothing to learn from)

A message is one or two sentences for the person at the page: what was expected, what was found,
what to do next. Nothing else in the project is shown to a visitor.
"""


class MmappError(Exception):
    """Root of the tree: catch this to catch every mistake that has a sentence for the user."""


class SettingsError(MmappError):
    """A setting is unknown, out of bounds, or contradicts another."""


class DataError(MmappError):
    """The data cannot be read as pairs."""


class ArchiveError(DataError):
    """The uploaded archive is broken, too large or unsafe."""


class ColumnError(DataError):
    """A needed column is missing or cannot be guessed."""


class EncoderError(MmappError):
    """An encoder could not be found or loaded."""


class CheckpointError(MmappError):
    """A folder is not a checkpoint of this project, or not a trustworthy one."""


class RunError(MmappError):
    """A run folder is taken, missing, or in the wrong state."""


class TrainingError(MmappError):
    """Training cannot start or cannot go on."""
