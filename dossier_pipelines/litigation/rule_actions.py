"""What automation rules can do on this desk: create a task, set a field of one."""

from typing import Final

from dossier_pipelines.automation_rules.actions import ActionHandlers, StatementFile
from dossier_pipelines.litigation.service_levels import PACKAGE

HANDLERS: Final = ActionHandlers(
    {
        "create_task": StatementFile(PACKAGE, "create_tasks"),
        "set_field": StatementFile(PACKAGE, "set_fields"),
    }
)
