"""One engine, one process: worker.py ENGINE MODEL RUNS THREADS. Prints one JSON line: min, median and
load in ms, rss in MiB. Times inference alone on a ready tensor, after ten runs of warm-up."""
import json
import sys
import time

import numpy as np

engine, model, runs, threads = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
started = time.perf_counter()
if engine == "onnxruntime":
    import onnxruntime

    started = time.perf_counter()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0]
    sample = np.random.default_rng(0).uniform(-1, 1, entry.shape).astype(np.float32)

    def once():
        session.run(None, {entry.name: sample})
else:
    from ai_edge_litert import interpreter

    started = time.perf_counter()
    engine = interpreter.Interpreter(model_path=model, num_threads=threads)
    engine.allocate_tensors()
    entry = engine.get_input_details()[0]
    sample = np.random.default_rng(0).uniform(-1, 1, entry["shape"])
    sample = (sample * 127).astype(entry["dtype"]) if entry["dtype"] != np.float32 else sample.astype(np.float32)

    def once():
        engine.set_tensor(entry["index"], sample)
        engine.invoke()

once()
load = (time.perf_counter() - started) * 1e3
for _ in range(10):
    once()
times = []
for _ in range(runs):
    start = time.perf_counter()
    once()
    times.append((time.perf_counter() - start) * 1e3)
times.sort()
peak = [int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM")][0]
print(json.dumps({"min": round(times[0], 3), "median": round(times[len(times) // 2], 3), "load": round(load, 1), "rss": round(peak, 1)}))
