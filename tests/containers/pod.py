"""Runs targets/k3s/kinglet.yaml's container by podman; called by pod.sh from the repository's root."""

import atexit, http.client, json, os, shutil, socket, subprocess, sys, tempfile, time

import yaml

program = sys.argv[1]
tools = os.environ.get("TOOLS", "target/release/kinglet-tools")
model = "models/efficientnet-lite0-int8.onnx"
work = tempfile.mkdtemp(prefix="kinglet-pod")
atexit.register(shutil.rmtree, work, ignore_errors=True)
TOKEN = "0123456789abcdef" * 4


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def run(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


# The manifest, and in it the places that its first lines tell to change.
documents = list(yaml.safe_load_all(open("targets/k3s/kinglet.yaml")))
find = lambda kind: next(d for d in documents if d["kind"] == kind and d["metadata"]["name"] == "kinglet")
spec = find("DaemonSet")["spec"]["template"]["spec"]
container, = spec["containers"]
port = free_port()
config = find("ConfigMap")["data"]
for written, place in {"/dev/video0": "test", "0.0.0.0:8080": f"127.0.0.1:{port}"}.items():
    assert written in config["kinglet.toml"], written
    config["kinglet.toml"] = config["kinglet.toml"].replace(written, place)

# A registry of our own, that holds what the documents tell to push there.
registry = free_port()
with open(f"{work}/registry.yml", "w") as file:
    yaml.safe_dump({"version": 0.1, "log": {"level": "error"}, "storage": {"filesystem": {"rootdirectory": f"{work}/registry"}},
                    "http": {"addr": f"127.0.0.1:{registry}"}}, file)
server = subprocess.Popen(["docker-registry", "serve", f"{work}/registry.yml"],
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
atexit.register(server.wait)
atexit.register(server.kill)
for _ in range(300):
    try:
        socket.create_connection(("127.0.0.1", registry)).close()
        break
    except OSError:
        time.sleep(0.1)
here = lambda name: name.replace("registry.example", f"127.0.0.1:{registry}")
volumes = {v["name"]: v for v in spec["volumes"]}
image, birds = here(container["image"]), here(volumes["model"]["image"]["reference"])
run(tools, "oci", "image", "--program", program, "--model", model, "--push", image)
run(tools, "oci", "push", model, birds)

# podman with a store of its own, of which nothing is left.
with open(f"{work}/containers.conf", "w") as file:
    file.write('[containers]\ndefault_ulimits = ["nofile=1024:4096", "nproc=1024:1024"]\n')
os.environ["CONTAINERS_CONF"] = f"{work}/containers.conf"
runtime = os.environ.get("RUNTIME") or ("runc" if shutil.which("runc") else "crun")
podman = ["podman", "--root", f"{work}/store", "--runroot", f"{work}/run", "--runtime", runtime,
          "--cgroup-manager", "cgroupfs", "--events-backend", "none"]
machine = {b"\xb7\x00": "arm64", b"\x3e\x00": "amd64", b"\x28\x00": "arm"}[open(program, "rb").read(20)[18:]]
run(*podman, "pull", "-q", "--tls-verify=false", "--arch", machine, image)
# A model is for every architecture, so its image is not asked for one.
run(*podman, "pull", "-q", "--tls-verify=false", birds)

# What the manifest says, in podman's words. A word that is not known here fails.
pod, own = spec["securityContext"], container["securityContext"]
assert pod.pop("runAsNonRoot") and pod["runAsUser"] > 0
assert pod.pop("seccompProfile") == {"type": "RuntimeDefault"}  # podman's own is always in force
user, group = pod.pop("runAsUser"), pod.pop("runAsGroup")
options = ["--user", f"{user}:{group}", "--network", "host", "--read-only", "--read-only-tmpfs=false",
           "--security-opt", "no-new-privileges", "--stop-timeout", str(spec["terminationGracePeriodSeconds"])]
for more in pod.pop("supplementalGroups") + [pod.pop("fsGroup")]:
    options += ["--group-add", str(more)]
assert own.pop("readOnlyRootFilesystem") is True and own.pop("allowPrivilegeEscalation") is False
for capability in own.pop("capabilities").pop("drop"):
    options += ["--cap-drop", capability]
assert not pod and not own, f"not known: {pod} {own}"
limit = container["resources"]["limits"]["memory"]
options += ["--memory", limit.replace("Mi", "m"), "--memory-swap", limit.replace("Mi", "m")]
for mount in container["volumeMounts"]:
    volume, at = volumes[mount["name"]], mount["mountPath"]
    assert mount["readOnly"]
    if "image" in volume:
        options += ["--mount", f"type=image,source={birds},destination={at}"]
        continue
    folder = f"{work}/{mount['name']}"
    os.mkdir(folder)
    files = config if "configMap" in volume else {"token": TOKEN}
    for name, text in files.items():
        with open(f"{folder}/{name}", "w") as file:
            file.write(text)
        os.chmod(file.name, volume.get("secret", {}).get("defaultMode", 0o644))
        os.chown(file.name, 0, group)  # fsGroup
    options += ["--volume", f"{folder}:{at}:ro"]
begun = time.time()
identity = run(*podman, "run", "--detach", *options, image, *container["args"])
atexit.register(subprocess.run, [*podman, "rm", "--force", "--time", "0", identity], stdout=subprocess.DEVNULL)


def logs():
    done = subprocess.run([*podman, "logs", identity], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.stdout


def ask(path, token=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def probe(name):
    get = container[name]["httpGet"]
    assert get["port"] == container["ports"][0]["name"]
    try:
        return ask(get["path"])[0] == 200
    except OSError:
        return False


def waits(name, times):
    """As the kubelet does: every so often, and that often in vain at most."""
    for _ in range(times):
        if probe(name):
            return print(f"ok: {name} after {time.time() - begun:.1f} s", flush=True)
        time.sleep(container[name]["periodSeconds"])
    sys.exit(f"{name} fails: {logs()}")


waits("startupProbe", container["startupProbe"]["failureThreshold"])
waits("readinessProbe", 12)
status, _ = ask("/v1/state")
assert status == 401, f"without a token: {status}"
status, text = ask("/v1/state", TOKEN)
first = json.loads(text)
assert status == 200 and first["model"] == "model" and not first["health"]["problems"], text
for _ in range(3):
    assert probe("livenessProbe") and probe("readinessProbe"), logs()
    time.sleep(1)
health = json.loads(ask("/v1/state", TOKEN)[1])["health"]
assert health["inferences"] > first["health"]["inferences"] and not health["problems"], health
print(f"ok: alive, ready, {health['inferences']} frames classified by the mounted model; told to who has the token only")

state = json.loads(run(*podman, "inspect", identity))[0]
facts = dict(line.split(":\t") for line in open(f"/proc/{state['State']['Pid']}/status").read().splitlines() if ":\t" in line)
assert facts["Uid"].split() == [str(user)] * 4, facts["Uid"]
assert int(facts["CapEff"], 16) == 0 and facts["NoNewPrivs"] == "1" and facts["Seccomp"] == "2", facts
assert state["HostConfig"]["ReadonlyRootfs"] and state["HostConfig"]["Memory"] == 192 << 20
print(f"ok: user {user}, no capability, no new privileges, system calls filtered, {limit} at most; resident {facts['VmRSS'].strip()}")

began = time.time()
run(*podman, "stop", identity)
took = time.time() - began
code = json.loads(run(*podman, "inspect", identity))[0]["State"]["ExitCode"]
assert code == 0 and took < spec["terminationGracePeriodSeconds"], f"exit code {code} after {took:.1f} s: {logs()}"
print(f"ok: it ends by itself when it is asked to, in {took:.1f} s")
