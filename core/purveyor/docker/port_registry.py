"""The ports that are taken, in the database."""

from purveyor.kernel.db.database import Tx


def ports_taken(tx: Tx) -> set[int]:
    """Every host port that is promised to somebody."""
    return {row["port"] for row in tx.rows("SELECT port FROM ports")}


def claim_port(
    tx: Tx, port: int, parameter: str, *, service: int | None = None, deployment: int | None = None
) -> None:
    tx.insert("ports", port=port, service_id=service, deployment_id=deployment, parameter=parameter)


def move_port(tx: Tx, service_id: int, parameter: str, port: int) -> None:
    """Give a service another port for one of its parameters."""
    tx.update("ports", "service_id = ? AND parameter = ?", [service_id, parameter], port=port)


def claimed_port(tx: Tx, *, deployment: int) -> int | None:
    found = tx.value("SELECT port FROM ports WHERE deployment_id = ?", [deployment])
    return None if found is None else int(found)


def release_ports(tx: Tx, *, service: int | None = None, deployment: int | None = None) -> None:
    tx.db.execute(
        "DELETE FROM ports WHERE service_id = ? OR deployment_id = ?", [service, deployment]
    )
