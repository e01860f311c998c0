"""A Slurm cluster of two hosts on one machine, each with a network and processes of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from hwtune.cluster import usable_cpus

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged", "mungekey", "ip", "nsenter", "unshare")
HOSTS = {"hwtune1": "10.77.0.1", "hwtune2": "10.77.0.2"}
FIRST = next(iter(HOSTS))
PATIENCE = 600.0  # seconds
CONFIG = """
ClusterName=hwtune
SlurmctldHost={first}({address})
AuthType=auth/munge
AuthInfo=socket={folder}/munge
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
ReturnToService=2
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
# Own name, own /etc/hosts, own Ray; then what the host shall run.
ENTER = 'mount --bind "$1" /etc/hosts && mount --bind "$2" /tmp/ray && hostname "$3" && shift 3'


def lacking() -> str:
    """Return why there can be no such cluster here, or ""."""
    if os.name != "posix" or os.geteuid() != 0:
        return "namespaces need root"
    return ", ".join(p for p in PROGRAMS if shutil.which(p) is None) and "Slurm is not installed"


@dataclass(frozen=True)
class Slurm:
    """What talks to the cluster."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """Return a user's environment, without what hwtune tells Ray in a process of its own."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "TUNE_"))}
        return {**kept, "SLURM_CONF": str(self.folder / "slurm.conf")}

    def on(self, host: str, *command: str) -> list[str]:
        """Return the command that runs another on a host."""
        return [
            "nsenter", f"--net=/run/netns/{host}", "unshare", "--uts", "--mount", "--pid", "--fork",
            "--kill-child", "--mount-proc", "bash", "-c", f'{ENTER} && exec "$@"', host,
            str(self.folder / f"hosts.{host}"), str(self.folder / f"ray.{host}"), host, *command,
        ]  # fmt: skip

    def ask(self, *command: str) -> str:
        """Return what one of Slurm's commands prints on the first host."""
        done = subprocess.run(
            self.on(FIRST, *command),
            capture_output=True,
            text=True,
            env=self.environment,
            check=True,
        )
        return done.stdout.strip()

    def submit(self, *words: object) -> str:
        """Submit `scripts/slurm` with these words on both hosts; return the job's number."""
        output = f"--output={self.folder}/job-%j.log"
        command = ("sbatch", "--parsable", f"--nodes={len(HOSTS)}", output, "scripts/slurm")
        return self.ask(*command, *map(str, words))

    def state(self, job: str) -> str:
        """Return what became of a job, in Slurm's words."""
        told = self.ask("scontrol", "show", "job", job)
        return " ".join(re.findall(r"\b(?:JobState|ExitCode)=(\S+)", told))

    def wait(self) -> None:
        """Wait until no job is left."""
        until = time.monotonic() + PATIENCE
        while self.ask("squeue", "--noheader"):
            assert time.monotonic() < until, "a job does not end"
            time.sleep(1)


@contextmanager
def slurm(folder: Path) -> Iterator[Slurm]:
    """Hold the cluster while the block runs."""
    cluster, daemons = Slurm(folder), ExitStack()
    Path("/tmp/ray").mkdir(exist_ok=True)
    (folder / "state").mkdir()
    names = "".join(f"{address} {host}\n" for host, address in HOSTS.items())
    for host in HOSTS:  # which on Debian calls itself by an address of the loopback
        (folder / f"hosts.{host}").write_text(f"127.0.0.1 localhost\n127.0.1.1 {host}\n{names}")
    cpus, memory = usable_cpus(), 2000
    nodes = [
        f"NodeName={host} NodeAddr={address} CPUs={cpus} RealMemory={memory}\n"
        for host, address in HOSTS.items()
    ]
    text = CONFIG.format(folder=folder, first=FIRST, address=HOSTS[FIRST])
    (folder / "slurm.conf").write_text("".join(nodes) + text)

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True)

    def start(*command: str) -> None:
        log = daemons.enter_context((folder / "daemons.log").open("a"))
        process = subprocess.Popen(command, stdout=log, stderr=log, env=cluster.environment)
        daemons.callback(process.wait, 30)
        daemons.callback(process.kill)  # with it all processes of a host; unshare hears no other

    with daemons:
        for host in HOSTS:
            (folder / f"ray.{host}").mkdir()
            ip("netns", "add", host)
            daemons.callback(ip, "netns", "delete", host)
            ip("-n", host, "link", "set", "lo", "up")
        ends = list(HOSTS)
        ip(*f"link add wire netns {ends[0]} type veth peer wire netns {ends[1]}".split())
        for host, address in HOSTS.items():
            ip("-n", host, "addr", "add", f"{address}/24", "dev", "wire")
            ip("-n", host, "link", "set", "wire", "up")
        subprocess.run(["mungekey", "--create", f"--keyfile={folder}/key"], check=True)
        files = [f"--{kind}-file={folder}/munge.{kind}" for kind in ("log", "pid", "seed")]
        start(
            "munged", "--foreground", "--force", f"--socket={folder}/munge",
            f"--key-file={folder}/key", *files,
        )  # fmt: skip
        start(*cluster.on(FIRST, "slurmctld", "-D"))
        for host in HOSTS:
            start(*cluster.on(host, "slurmd", "-D", "-N", host))
        until = time.monotonic() + 60
        while True:
            asked = subprocess.run(
                cluster.on(FIRST, "sinfo", "--noheader", "--format=%D %t"),
                capture_output=True, text=True, env=cluster.environment,
            )  # fmt: skip
            if asked.stdout.split() == [str(len(HOSTS)), "idle"]:
                break
            assert time.monotonic() < until, (folder / "daemons.log").read_text()
            time.sleep(0.5)
        yield cluster
