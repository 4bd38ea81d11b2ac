"""`meter.py FD COMMAND...` runs the command and writes its seconds, peak memory in bytes and exit code to FD.

A process of its own, with nothing imported: a child's peak memory counts from that of its parent.
"""

import os
import sys
import time

answer = int(sys.argv[1])
os.set_inheritable(answer, False)
began = time.perf_counter()
child = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
_, status, usage = os.wait4(child, 0)
seconds = time.perf_counter() - began
os.write(answer, f"{seconds} {usage.ru_maxrss * 1024} {os.waitstatus_to_exitcode(status)}".encode())
