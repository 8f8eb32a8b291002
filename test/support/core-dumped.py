"""core-dumped.py FILE COMMAND...: runs the command with core dumps allowed, in the folder of FILE; FILE says afterwards whether there was one."""
import os
import resource
import sys

out, command = sys.argv[1], sys.argv[2:]
resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
child = os.fork()
if child == 0:
    os.chdir(os.path.dirname(out))
    os.execvp(command[0], command)
_, status = os.waitpid(child, 0)
with open(out + ".new", "w") as file:
    file.write("dumped" if os.WCOREDUMP(status) else "not dumped")
os.rename(out + ".new", out)
