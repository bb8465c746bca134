"""What is done in a recovery, as people come to it."""

from purveyor.exposed import Command, Exposed

RECOVERY = "/api/recovery"

RECOVER_SERVICE = Exposed(
    "recover",
    f"POST {RECOVERY}/services/{{reference:service}}",
    "recover_service",
    "backups",
    "Bring one service back that a recovery could not.",
    body="purveyor.recovery.schemas:RecoverServiceRequest",
    answers="purveyor.services.routes:service_answer",
)
FINISH_RECOVERY = Exposed(
    "finish-recovery",
    f"POST {RECOVERY}/finish",
    "finish",
    "backups",
    "A person has looked: apps, webhooks, schedules and expiry go on.",
    answers="purveyor.recovery.routes:state_shown",
    command=Command(
        "finish",
        "All is as it should be: apps, deploys, webhooks and the expiry of backups go on.",
        says="The recovery is finished. Backups expire again in a week.",
    ),
)
