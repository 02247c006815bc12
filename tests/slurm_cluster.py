"""A Slurm of one node on this machine, runs of Snakemake on it, and ways to hurt both."""

import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from smoke_run import REPOSITORY

UP, DOWN = (REPOSITORY / "tests/slurm" / name for name in ("up", "down"))
FIELDS = "JobID,State,AllocTRES,TimelimitRaw,ReqMem,Partition,Comment,WorkDir"


def within(seconds, condition, what, pause=0.5):
    """Wait for a condition; its value."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"after {seconds} s still not: {what}"
        time.sleep(pause)
    return value


def command(*words, check=True, **options):
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, **options)
    assert not check or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


def processes_in(folder):
    """Living processes whose working directory is in a folder."""
    found = []
    for process in psutil.process_iter(["cwd", "status", "cmdline", "pid"]):
        place = process.info["cwd"]
        if place and Path(place).is_relative_to(folder) and process.info["status"] != "zombie":
            found.append(process)
    return found


def environment_of(process):
    """A process's environment; {} if it has ended."""
    with suppress(psutil.NoSuchProcess):
        return process.environ()
    return {}


@dataclass(frozen=True)
class Job:
    """A row of sacct: one attempt of one job."""

    identity: str
    state: str
    resources: str
    minutes: str
    memory: str
    partition: str
    comment: str
    folder: str

    @property
    def rule(self):
        return re.match(r"rule_(\w+?)(_wildcards_|$)", self.comment)[1]


class Cluster:
    """Slurm as tests/slurm/up starts it, in a folder of its own."""

    def __init__(self, folder):
        self.folder = folder
        self.started = time.monotonic()
        os.environ.pop("SLURM_CONF", None)  # Nothing here may speak to another Slurm.
        self.environment = {**os.environ, "SLURM_TEST_DIR": str(folder)}

    def up(self):
        """Start what does not run; all of it from nothing, or what a test has killed."""
        self._call(UP)

    def down(self):
        self._call(DOWN, "--purge")

    def _call(self, script, *arguments):
        # To a file: the daemons would keep a pipe open.
        with tempfile.TemporaryFile("w+") as log:
            done = subprocess.run(
                [script, *arguments],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                timeout=400,
            )
            log.seek(0)
            assert done.returncode == 0, log.read()[-3000:]

    def wait_for_saved_state(self):
        """Wait until the controller has just written down what it knows, or has nothing new.

        It does so every few seconds. Killed in between it forgets jobs, gives their numbers to
        others and closes the node, which only an administrator can repair.
        """
        state = self.folder / "state/job_state"
        before, now, end = state.stat().st_mtime_ns, None, time.monotonic() + 12
        while now in (None, before) and time.monotonic() < end:
            time.sleep(0.02)
            with suppress(FileNotFoundError):  # while it is replaced
                now = state.stat().st_mtime_ns

    def process(self, program):
        """The living process of one of Slurm's programs."""
        with suppress(FileNotFoundError, ValueError, psutil.NoSuchProcess):
            process = psutil.Process(int((self.folder / f"run/{program}.pid").read_text()))
            return process if process.name() == program else None
        return None

    def queue(self, folder):
        """{job: (state, comment)} of the jobs of a folder that have not ended."""
        lines = command("squeue", "--noheader", "--array", "--format=%i|%T|%k|%Z").splitlines()
        rows = [line.strip().split("|", 3) for line in lines]
        return {job: (state, note) for job, state, note, place in rows if place == str(folder)}

    def end_lost(self, folder):
        """End what a cgroup would have ended with its job.

        This Slurm knows processes by their parents. It loses one whose parent it has killed first:
        a Snakemake inside a job that was pushed out then waits for ever, and does nothing.
        """
        queue = self.queue(folder)
        for process in processes_in(folder):
            job = environment_of(process).get("SLURM_JOB_ID")
            if job and job not in queue:
                with suppress(psutil.NoSuchProcess):
                    process.kill()

    def accounted(self, folder):
        """Every attempt at every job of a folder, those that were queued again too."""
        # From the start: by itself sacct tells of today, and a run may go on over midnight.
        since = f"--starttime=now-{int(time.monotonic() - self.started) + 60}seconds"
        text = command("sacct", "-X", "-D", "-P", "-n", since, f"--format={FIELDS}")
        jobs = [Job(*line.split("|", 7)) for line in text.splitlines()]
        return [job for job in jobs if job.folder == str(folder)]


class Run:
    """`snakemake --cores 8 --profile slurm` in a folder, started again as often as it is killed."""

    def __init__(self, folder, *arguments):
        self.folder = folder
        self.arguments = arguments
        self.log = folder / "said.log"
        self.process = None

    def start(self):
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(
                self._command(), cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def _command(self, *options):
        words = [sys.executable, "-m", "snakemake", "--cores", "8", "--profile", "slurm"]
        # Jobs take seconds here: the profile's pauses between two looks would be most of the time.
        looks = ["--slurm-init-seconds-before-status-checks", "3"]
        return [*words, *looks, *options, *self.arguments]

    def said(self):
        return self.log.read_text()

    def again(self):
        """Start after a kill, as its user would: also once more if planning met a job's end.

        Snakemake stops if a file vanishes or comes while it plans, and jobs of the killed run may
        still write. Returns what the last start has said when it has ended or sent its first job.
        """
        for _ in range(3):
            # Taking the lock away plans, too.
            within(120, self._unlocked, "the folder is unlocked")
            before = len(self.said())
            self.start()
            within(
                240,
                lambda start=before: not self.goes_on() or "with SLURM job" in self.said()[start:],
                "Snakemake is refused or sends jobs",
            )
            said = self.said()[before:]
            if self.goes_on() or "Unable to obtain modification time" not in said:
                break
        return said

    def _unlocked(self):
        command_line = self._command("--unlock")
        return subprocess.run(command_line, cwd=self.folder, capture_output=True).returncode == 0

    def goes_on(self):
        return self.process.poll() is None

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(20)

    def end(self):
        """Leave no process behind."""
        if self.process is not None and self.goes_on():
            self.kill()
        for process in processes_in(self.folder):
            with suppress(psutil.NoSuchProcess):
                process.kill()


class Killer:
    """Kills one thing after the other while a run goes on, at random moments, by a seed."""

    KINDS = ("job", "process", "controller", "snakemake") * 2 + ("node", "preemption")

    def __init__(self, cluster, run, seed):
        self.cluster, self.run = cluster, run
        self.random = random.Random(seed)
        self.order = list(self.KINDS)
        self.random.shuffle(self.order)
        self.killed = []
        """(kind, what) of all that was killed."""
        self.refused = 0
        """Starts that were refused because jobs of a killed Snakemake went on."""
        self.outlived: set[str] = set()
        """What the jobs are that were there when Snakemake was killed."""

    def finish(self, seconds):
        """Let the run come to its end, started again as often as it is killed."""
        end = time.monotonic() + seconds
        due = time.monotonic() + self.random.uniform(20, 40)
        while self.run.goes_on():
            assert time.monotonic() < end, self.run.said()[-3000:]
            if time.monotonic() > due:
                # What cannot be hit at this moment waits for its turn, and holds nothing else up.
                kind = next((kind for kind in self.order if getattr(self, kind)()), None)
                if kind:
                    print(f"{time.strftime('%X')} killed: {self.killed[-1]}", flush=True)
                    self.order.remove(kind)
                    due = time.monotonic() + self.random.uniform(15, 30)
            time.sleep(1)

    def _running(self):
        """{job: what it is} of the running jobs."""
        queue = self.cluster.queue(self.run.folder)
        return {job: note for job, (state, note) in queue.items() if state == "RUNNING"}

    def _choose(self):
        """A running job that was not hit before, so that none fails as often as it is tried."""
        hit = {what for kind, what in self.killed if kind in ("job", "process")}
        left = sorted((job, note) for job, note in self._running().items() if note not in hit)
        return self.random.choice(left) if left else (None, None)

    def _accounted(self, state):
        jobs = self.cluster.accounted(self.run.folder)
        return sum(job.state.startswith(state) for job in jobs)

    def job(self):
        """Cancel a running job."""
        job, name = self._choose()
        if job is None:
            return False
        command("scancel", job, check=False)
        return self._hit("job", job, name, "CANCELLED")

    def process(self):
        """Kill the process of a running job's script."""
        job, name = self._choose()
        if job is None:
            return False
        scripts = [
            process
            for process in processes_in(self.run.folder)
            if ".snakemake/scripts/" in " ".join(process.info["cmdline"] or ())
            and environment_of(process).get("SLURM_JOB_ID") == job
        ]
        if not scripts:
            return False
        for process in scripts:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        return self._hit("process", job, name, "FAILED")

    def _hit(self, kind, job, name, state):
        """Whether a job ends in this state, and did not end by itself just before."""
        within(120, lambda: job not in self.cluster.queue(self.run.folder), f"job {job} has ended")
        ask = ("sacct", "-X", "-n", "-P", "--format=State", f"--jobs={job}")
        ended = within(60, lambda: re.match("[CFT]", command(*ask)) and command(*ask), "accounted")
        if ended.startswith(state):
            self.killed.append((kind, name))
        return ended.startswith(state)

    def controller(self):
        """Kill slurmctld and start it again some seconds later."""
        old = self.cluster.process("slurmctld")
        # No job is sent between the last saved state and the kill: its number would be lost.
        self.run.process.send_signal(signal.SIGSTOP)
        try:
            time.sleep(1)
            self.cluster.wait_for_saved_state()
            old.kill()
        finally:
            self.run.process.send_signal(signal.SIGCONT)
        time.sleep(self.random.uniform(1, 5))
        self.cluster.up()
        self.killed.append(("controller", old.pid))
        return True

    def snakemake(self):
        """Kill Snakemake, and start it again: in vain at once, and when its jobs have ended."""
        if not self._running():
            return False
        self.run.kill()
        old = self.cluster.queue(self.run.folder)
        self.outlived |= {what for _, what in old.values()}
        said = self.run.again()
        left = self.cluster.queue(self.run.folder).keys() & old.keys()
        if self.run.process.poll() in (None, 0):
            assert not left, "started beside the jobs of a killed run"
        else:
            assert "An earlier run in" in said, said[-3000:]
            assert all(f"Slurm job {job} (" in said for job in left), said[-3000:]
            self.refused += 1
            # What has begun may end by itself; for what is only queued, the advice is followed.
            if left:
                # One that ends meanwhile is none that could be cancelled.
                command("scancel", "--state=PENDING", *left, check=False)
            within(240, lambda: not self.cluster.queue(self.run.folder), "jobs of the killed run")
            self.cluster.end_lost(self.run.folder)
            # What the killed Snakemake has begun to draw by itself is no job of Slurm's.
            within(120, lambda: not processes_in(self.run.folder), "processes of the killed run")
            said = self.run.again()
            assert self.run.process.poll() in (None, 0), said[-3000:]
        self.killed.append(("snakemake", f"with {len(old)} jobs queued"))
        return True

    def node(self):
        """Cut the node's power: its daemon and all jobs' processes are gone. Switch it on again."""
        if not self._running():
            return False
        before = self._accounted("NODE_FAIL")
        daemon = self.cluster.process("slurmd")
        steps = [p for p in psutil.process_iter(["name"]) if p.info["name"] == "slurmstepd"]
        children = [child for step in steps for child in step.children(recursive=True)]
        for process in [daemon, *steps, *children]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        within(90, lambda: "down" in command("sinfo", "-h", "-o", "%t"), "node is down")
        self.cluster.up()
        return self._more("node", daemon.pid, "NODE_FAIL", before)

    def _more(self, kind, what, state, before):
        """Whether more jobs were hit than before; they are queued again, so none ends."""
        end = time.monotonic() + 20
        while self._accounted(state) <= before and time.monotonic() < end:
            time.sleep(1)
        if self._accounted(state) > before:
            self.killed.append((kind, what))
        return self._accounted(state) > before

    def preemption(self):
        """A job that needs the whole node pushes the others out for a moment."""
        if not self._running():
            return False
        before = self._accounted("PREEMPTED")
        urgent = ("sbatch", "--parsable", "--partition=urgent", "--exclusive", "--output=/dev/null")
        job = command(*urgent, "--wrap=sleep 2").strip()
        state = ("sacct", "-X", "-n", "-P", "--format=State", f"--jobs={job}")
        within(120, lambda: "COMPLETED" in command(*state), "urgent job has run")
        return self._more("preemption", job, "PREEMPTED", before)
