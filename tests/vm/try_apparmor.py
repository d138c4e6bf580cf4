import json,sys,time
from tests.lab.world import World
from tests.lab.tree import text
from tests.lab.product import installed, CHECKOUT
from tests.vm.images import image
from tests.vm.laptop import BootedLaptop
from tests.lab.process import wait_for
from tests.lab.ike import Way
from tests.lab.ike_client import account
suite=sys.argv[1]; mode=sys.argv[2]
prof=(CHECKOUT/"etc/apparmor/aovpnd").read_text()
if mode=="complain": prof=prof.replace("attach_disconnected,mediate_deleted","complain,attach_disconnected,mediate_deleted")
with World.build(links=(), ike=True) as world:
    given=account(world.ike, Way.CERTIFICATE)
    files=installed(("aovpnd-lockdown.service",))|{"/etc/aovpnd/tunnels/home.conf":text(world.laptop.tunnel_conf,0o600),
      "/etc/aovpnd/tunnels/office.toml":text(given.text,0o600),"/etc/aovpnd/aovpnd.toml":text('[tunnel]\nprefer = ["home"]\n'),
      "/usr/lib/aovpnd/apparmor":text(prof),**{f"/etc/aovpnd/keys/{n}":text(k,0o600) for n,k in given.files.items()}}
    for u in ("aovpnd","aovpnd-guard","aovpnd-bus"):
        p=f"/usr/lib/systemd/system/{u}.service"
        t=(CHECKOUT/f"systemd/{u}.service").read_text()
        if "AppArmorProfile" not in t:
            t=t.replace("[Service]\n",f"[Service]\nAppArmorProfile=-{u}\n").replace("[Unit]\n","[Unit]\nWants=aovpnd-apparmor.service\nAfter=aovpnd-apparmor.service\n",1)
        files[p]=text(t)
    files["/etc/sysctl.d/60-printk.conf"]=text("kernel.printk_ratelimit_burst = 100000\n")
    t0=time.time()
    with BootedLaptop.power_on(image(suite,("apparmor",)),world,files,kernel="lsm=capability,apparmor audit=1 audit_backlog_limit=8192") as laptop:
        m=laptop.machine
        m.wait("the end of the boot", "systemctl", "is-active", "-q", "multi-user.target")
        print("booted",time.time()-t0,flush=True)
        print(m.run("cat","/sys/module/apparmor/parameters/enabled"), m.run("cat","/sys/kernel/security/apparmor/profiles"),flush=True)
        laptop.wait_online(laptop.built_in())
        r=m.run("systemctl","start","aovpnd.service"); print(r,flush=True)
        def status(): return json.loads(m.check("aovpnctl","status","--json"))
        try: wait_for("tunnel",lambda: status()["phase"]=="connected",deadline_s=120,poll_s=0.5)
        except Exception as e: print("NOT CONNECTED",e,status())
        print("connected",time.time()-t0,flush=True)
        print(m.run("aovpnctl","connect","office"))
        try: wait_for("ike",lambda: any(t["name"]=="office" and t["state"]=="connected" for t in status()["tunnels"]),deadline_s=120,poll_s=0.5)
        except Exception as e: print("NOT IKE",e,status())
        for c in (("aovpnctl","explain","1.1.1.1:443"),("systemctl","reload","aovpnd"),("systemctl","restart","aovpnd"),("aovpnctl","doctor")):
            r=m.run(*c); print(c,r.code,r.out[-1500:] if c[-1]=="doctor" else r.out[-200:],r.err[-300:],flush=True)
        time.sleep(5)
        print([l for l in m.run("ps","-eo","label,args").out.splitlines() if "aovpnd" in l])
        out=m.run("journalctl","-b","--no-pager","-o","cat").out+m.run("dmesg").out
        lines=[l for l in out.splitlines() if 'pparmor=' in l or "PPARMOR" in l]
        print(len(lines)); print("\n".join(sorted(set(l[l.index('pparmor'):] if 'pparmor' in l else l for l in lines if 'STATUS' not in l))))
        print(m.run("dmesg").out[-1500:])
        print(m.run("journalctl","-b","--no-pager","-u","aovpnd*","-p","warning").out[-2500:])
