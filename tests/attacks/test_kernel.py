"""What root in an app's container asks of the kernel of this host, by its calls and by its files: it
is refused, and what programs need every day is not."""

import json
import platform
import secrets
from collections.abc import Iterator

import pytest

from attacks.told import attack
from support import MakeStage, Stage, docker, eventually

from attacks.test_apps import ENDS, ROOTS  # isort: skip

# numbers of x86-64; a call is tried with arguments that would do, or that fail later than a right
CALLS = {
    "mount": (165, b"none", b"/tmp", b"tmpfs", 0, 0), "umount2": (166, b"/proc", 2),
    "pivot_root": (155, b"/", b"/"), "unshare a user namespace": (272, 0x10000000),
    "unshare a network": (272, 0x40000000), "setns": (308, -1, 0), "bpf": (321, 0, 0, 0),
    "perf_event_open": (298, 0, 0, -1, -1, 0), "add_key": (248, b"user", b"x", b"y", 1, -2),
    "keyctl": (250, 0, -3, 0), "request_key": (249, b"user", b"x", 0, -2),
    "userfaultfd": (323, 0), "open_by_handle_at": (304, -100, 0, 0), "kexec_load": (246, 0, 0, 0, 0),
    "init_module": (175, 0, 0, b""), "finit_module": (313, 0, b"", 0),
    "delete_module": (176, b"x", 0), "reboot": (169, 0xFEE1DEAD, 672274793, 0, 0),
    "clock_settime": (227, 0, 0), "settimeofday": (164, 0, 0), "swapon": (167, b"/tmp/x", 0),
    "swapoff": (168, b"/tmp/x"), "iopl": (172, 3), "ioperm": (173, 0x80, 1, 1),
    "syslog": (103, 3, 0, 0), "acct": (163, b"/tmp/x"), "quotactl": (179, 0, b"x", 0, 0),
    "sethostname": (170, b"db", 2), "setdomainname": (171, b"db", 2), "nfsservctl": (180, 0, 0, 0),
    "lookup_dcookie": (212, 0, 0, 0), "chroot": (161, b"/tmp"), "vhangup": (153,),
    "fanotify_init": (300, 0, 0), "move_pages": (279, 1, 0, 0, 0, 0, 0),
}  # fmt: skip
WRITES = (
    "/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe",
    "/proc/sys/vm/panic_on_oom", "/proc/sys/fs/binfmt_misc/register", "/proc/irq/default_smp_affinity",
    "/sys/kernel/uevent_helper", "/sys/fs/cgroup/release_agent", "/sys/power/state",
    "/sys/class/net/eth0/mtu", "/dev/mem", "/dev/kmsg", "/dev/sda", "/dev/vda", "/dev/fuse",
)  # fmt: skip
READS = (
    "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug", "/proc/latency_stats",
    "/sys/firmware/acpi/tables/DSDT", "/dev/mem", "/dev/kmsg", "/dev/sda", "/dev/vda",
    "/run/docker.sock", "/var/run/docker.sock", "/run/containerd/containerd.sock",
    "/proc/1/root/etc/purveyor/postgres-password",
)  # fmt: skip
ASK = """
import ctypes, errno, json, mmap, os, socket, subprocess, sys, tempfile, threading, time
calls, writes, reads = json.loads(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
found = {}
for name, (number, *given) in calls.items():
    ctypes.set_errno(0)
    args = [ctypes.c_char_p(item.encode()) if isinstance(item, str) else ctypes.c_long(item) for item in given]
    answer = libc.syscall(ctypes.c_long(number), *args)
    found[name] = errno.errorcode.get(ctypes.get_errno(), "done") if answer == -1 else "done"
for path in writes:
    try:
        with open(path, "r+b", buffering=0) as file:
            file.write(b"1")
        found["write " + path] = "done"
    except OSError as error:
        found["write " + path] = errno.errorcode[error.errno]
for path in reads:
    try:
        with open(path, "rb") as file:
            found["read " + path] = "done" if file.read(1) else "nothing"
    except OSError as error:
        found["read " + path] = errno.errorcode[error.errno]
found["processes"] = len([item for item in os.listdir("/proc") if item.isdigit()])
found["mounts of the host"] = [line for line in open("/proc/self/mountinfo") if "docker.sock" in line]
def everyday():
    with tempfile.TemporaryFile() as file, socket.socket() as door, mmap.mmap(-1, 4096) as memory:
        import fcntl, select, signal
        fcntl.flock(file, fcntl.LOCK_EX)
        door.bind(("", 443))
        door.listen()
        memory[:2] = b"ok"
        select.epoll().close()
        thread = threading.Thread(target=time.sleep, args=[0])
        thread.start()
        thread.join()
        return subprocess.run(["sh", "-c", "echo fine"], capture_output=True, text=True).stdout.strip()
found["everyday"] = everyday()
print(json.dumps(found), flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def stage(make_stage: MakeStage) -> Iterator[Stage]:
    with make_stage('self-repair = "off"').serving() as made:
        made.furnish({}, ["alpha"])
        yield made


@attack(
    "the engine",
    "mount, or change what is mounted",
    "make a namespace of its own, or enter another",
    "load a program or a module into the kernel",
    "trace the kernel",
    "read or add keys of the kernel",
    "open a file of the host by its handle",
    "boot the host, or stop it",
    "set its clock",
    "reach its ports and memory",
    "write the kernel's settings",
    "have a program of its own run by the kernel",
    "read the kernel's memory and messages",
    "find the engine's socket",
    "see another's processes",
    honest="starts threads and programs, locks files, maps memory, listens, waits for events",
)
@pytest.mark.skipif(platform.machine() != "x86_64", reason="calls have other numbers there")
def test_root_in_a_container_gets_nothing_of_the_hosts_kernel(stage: Stage) -> None:
    calls = {
        name: [item.decode() if isinstance(item, bytes) else item for item in given]
        for name, given in CALLS.items()
    }
    command = ["python3", "-c", f"{ENDS}\n{ASK}", json.dumps([calls, WRITES, READS])]
    token = stage.cli("token", "create", secrets.token_hex(3), "--scope", "project", "--project", "alpha").strip()  # fmt: skip
    with stage.http(token) as client:
        answer = client.post(
            "/api/projects/alpha/deployments", json={"image": ROOTS, "command": command}
        )
    assert answer.status_code == 201, answer.text
    name = answer.json()["container"]
    found = json.loads(str(eventually(lambda: docker("logs", name))))
    assert found.pop("everyday") == "fine"
    assert found.pop("processes") == 1
    assert found.pop("mounts of the host") == []
    taken = {name: found.pop(name) for name in CALLS}
    assert {name: said for name, said in taken.items() if said not in ("EPERM", "ENOSYS")} == {}
    written = {name for name, said in found.items() if name.startswith("write ") and said == "done"}
    assert written == set()
    assert {name for name, said in found.items() if name.startswith("read ") and said == "done"} == set()  # fmt: skip
