import subprocess
from tests.clients.test_compose import *


def test_raw(wherry):
    bad = []
    for n in range(60):
        c = wherry.create("echo", "one-off")
        with (
            wherry.attach(c, stdin=0, stderr=0, upgrade=True) as out,
            wherry.attach(c, stdin=0, stdout=0, upgrade=True) as err,
        ):
            wherry.start(c)
            o = list(out.frames())
            e = list(err.frames())
        if o != [(1, b"one-off\n")] or e:
            bad.append((o, e))
    print("raw bad", len(bad), bad[:3])


def test_run(compose):
    bad = []
    for n in range(12):
        d = compose("run", "--rm", "-T", "--no-deps", "probe", "echo", "one-off")
        if d.stdout != "one-off\n":
            bad.append(d)
    print("run bad", len(bad), bad[:3])
    print(compose.engine.log[-3000:])
