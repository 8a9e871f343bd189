"""`make demo`: the four scripts in order, against a stand-in for Danbooru and the model hub.

The scripts are the real ones, run as a user runs them. Only the addresses and the data folder
differ, and HF_HOME, so that the demo's tiny models never enter your own cache of the hub under the
names of the real ones.
"""

import os
import subprocess
import sys
from pathlib import Path

from demo.drawings import make_site
from demo.server import serve

ROOT = Path(__file__).parent.parent
WORK = ROOT / "demo" / "data"
DATA = WORK.relative_to(ROOT) / "arena"
# What would reach a real site's account, or the demo's models a real cache.
PRIVATE = {"DANBOORU_LOGIN", "DANBOORU_API_KEY", "HF_TOKEN", "HF_HUB_CACHE", "HF_HUB_OFFLINE"}
SCRIPTS = ("download.py", "trainable.py", "export_sw.py", "validate.py")


def main() -> int:
    """Draw the posts if they are not there yet, then run every script; the first failure's code."""
    site = WORK / "site"
    if not (site / "posts.json").exists():
        print("Drawing the posts of the stand-in site…", flush=True)
        make_site(site)
    (ROOT / DATA).mkdir(parents=True, exist_ok=True)
    with serve(site, ROOT / "demo" / "hub") as server:
        print(f"A stand-in for Danbooru and the model hub answers on {server.url}", flush=True)
        environment = {
            **{key: value for key, value in os.environ.items() if key not in PRIVATE},
            "NO_PROXY": "127.0.0.1",
            "DANBOORU_URL": server.url,
            "HF_ENDPOINT": server.url,
            "HF_HOME": str(WORK / "hub-cache"),
        }
        for script in SCRIPTS:
            print(f"\n$ python {script} --data {DATA}", flush=True)
            command = [sys.executable, script, "--data", str(DATA)]
            ended = subprocess.run(command, cwd=ROOT, env=environment, check=False)
            if ended.returncode:
                return ended.returncode
    print(
        "\nThese are drawings and two tiny models: the numbers show that the arena works, not what"
        f"\nthe real models can do. All files are in {DATA}; open {DATA}/report.html in a browser."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
