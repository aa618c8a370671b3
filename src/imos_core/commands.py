"""Former name of `command_output`, for `commands_propagate`."""

from imos_core.command_output import with_progress as with_progress
