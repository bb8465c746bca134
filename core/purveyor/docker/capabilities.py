"""The names of what Linux lets root do, piece by piece (capabilities(7)), as the engine takes
them."""

LISTED = (
    "AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN DAC_OVERRIDE "
    "DAC_READ_SEARCH FOWNER FSETID "
    "IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE MKNOD NET_ADMIN "
    "NET_BIND_SERVICE NET_BROADCAST NET_RAW "
    "PERFMON SETFCAP SETGID SETPCAP SETUID SYSLOG SYS_ADMIN SYS_BOOT SYS_CHROOT SYS_MODULE "
    "SYS_NICE SYS_PACCT SYS_PTRACE "
    "SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG WAKE_ALARM"
)
NAMES = frozenset(LISTED.split())


def name_of(text: str) -> str:
    """A capability as it is named here: ``cap_chown`` is CHOWN. Raises `ValueError` for what is
    none, ALL among it."""
    name = text.strip().upper().removeprefix("CAP_")
    if name not in NAMES:
        raise ValueError(f"{text[:40]!r} is not a capability of Linux, such as CHOWN")
    return name
