"""What training scripts do to outlive their end, for the suites of every target."""

# Forks away from its parent, session and group, and ignores every polite signal.
DAEMON = """
import os, signal, sys, time
def daemon():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            os.write(1, b"daemon\\n")
            while True:
                time.sleep(1000)
        os._exit(0)
    os.wait()
daemon()
"""
