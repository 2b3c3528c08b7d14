"""Workers that hold shared events are killed and stopped at random, while events are set here and there.

    PYTHONPATH=tests python tests/processes/shared_chaos.py SECONDS [SEED]

No set may be lost, and no set() may take longer than 50 ms of this process's time. The exit code is 0 and nothing is printed if
that holds; the seed is printed otherwise. All start methods are used in turn.
"""

import multiprocessing
import os
import random
import signal
import sys
import time

from helpers import TIMEOUT

from fastevent import SharedEvent

WORKERS = 6
SLOWEST_SET = 0.05


def works(connection, seed):
    """Wait or poll for each event that arrives, or set it; say what came of it."""
    randomness = random.Random(seed)
    while True:
        event, is_setter = connection.recv()
        if is_setter:
            event.set(os.getpid())
            connection.send("set")
            continue
        connection.send("here")
        if randomness.random() < 0.5:
            event.wait(TIMEOUT)
        else:
            deadline = time.monotonic() + TIMEOUT
            while not event.is_set() and time.monotonic() < deadline:
                time.sleep(0.0001)
        connection.send(event.reason if event.is_set() else "lost")


class Worker:
    def __init__(self, method, seed):
        context = multiprocessing.get_context(method)
        self.connection, there = context.Pipe()
        self.process = context.Process(target=works, args=(there, seed), daemon=True)
        self.process.start()
        there.close()

    def received(self, what):
        assert self.connection.poll(TIMEOUT), f"no answer: {what}"
        return self.connection.recv()

    def signal(self, number):
        os.kill(self.process.pid, number)

    def end(self):
        self.process.kill()
        self.process.join(TIMEOUT)
        self.connection.close()


def chaos(seconds, seed):
    randomness = random.Random(seed)
    methods = ["fork", "spawn", "forkserver"]
    workers = [Worker(methods[rank % 3], randomness.random()) for rank in range(WORKERS)]
    end, rounds, slowest = time.monotonic() + seconds, 0, 0.0
    while time.monotonic() < end:
        rounds += 1
        event = SharedEvent(name=f"round {rounds}")
        randomness.shuffle(workers)
        setter, *waiters = workers
        for worker in waiters:
            worker.connection.send((event, False))
        for worker in waiters:
            assert worker.received("arrival") == "here"
        killed = waiters[: randomness.choice([0, 0, 0, 0, 0, 1, 2])]
        stopped = waiters[len(killed) : len(killed) + randomness.choice([0, 0, 1])]
        for worker in stopped:
            worker.signal(signal.SIGSTOP)
        for worker in killed:
            worker.process.kill()
        by_setter = randomness.random() < 0.5
        if by_setter:
            setter.connection.send((event, True))
            assert setter.received("set") == "set"
            assert event.wait(TIMEOUT), "lost at home"
        else:
            # By this thread's own time: on a loaded machine another process may have the processor meanwhile.
            before = time.thread_time()
            event.set(os.getpid())
            slowest = max(slowest, time.thread_time() - before)
        reason = event.reason
        for worker in waiters:
            if worker not in killed and worker not in stopped:
                assert worker.received("the set") == reason
        for worker in stopped:
            worker.signal(signal.SIGCONT)
            assert worker.received("the set, once it goes on") == reason
        for worker in killed:
            worker.end()
            workers[workers.index(worker)] = Worker(randomness.choice(methods), randomness.random())
    assert slowest < SLOWEST_SET, f"a set() took {slowest:.3f} s"
    for worker in workers:
        worker.end()
    return rounds


if __name__ == "__main__":
    seconds = float(sys.argv[1])
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(10**6)
    try:
        rounds = chaos(seconds, seed)
        assert rounds > seconds / 5, f"only {rounds} rounds"
        if os.environ.get("VERBOSE"):
            print(rounds, "rounds")
    except BaseException:
        print("seed", seed)
        raise
