from faults.lab import Lab, HEALTHY
from faults.defects import DEFECTS
import time, sys
def test_x():
    lab = Lab.build()
    try:
        with lab.site("x") as site:
            a, b = site.cluster("a"), site.cluster("b")
            t=time.time()
            for o in lab.together(["launch","-c",a,"-y","-d","--infra",site.infra,"echo begun; sleep 600"],["launch","-c",b,"-y","-d","--infra",site.infra,"echo begun; sleep 600"],["launch","-c","h","-y","-d","--infra",HEALTHY,"echo begun; sleep 600"]):
                print(o)
            print("launched", time.time()-t)
            import os
            for name in os.environ.get("F","silent").split(","):
                print("=======", name)
                with DEFECTS[name].begin(site):
                    t=time.time()
                    for o in lab.together(["launch","-c",site.cluster("new"),"-y","--infra",site.infra,"echo hi"],["exec",a,"echo hi"],["status"],["status","-r"],["queue",a],["logs",a,"1","--no-follow"],["cancel","-y",b,"1"],["down","-y",a],["down","-y","--purge",b],["check"],["api","status"],["exec","h","echo hi"]):
                        print(o)
                        print()
                    print("all", time.time()-t)
    finally:
        lab.close()
