"""How much one environment may store, as a parameter."""

from purveyor_hooks import Parameter, quotas

STORAGE = Parameter(
    name="project_storage",
    help=(
        "How much the documents and indexes of one environment may take, such as 500mb or 20gb; 0 "
        "is no limit. At 80 percent it is told, at 100 percent writes are refused until something "
        "is deleted."
    ),
    default="0",
    pattern=quotas.SIZE,
)
