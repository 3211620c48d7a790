#!/usr/bin/env python3
"""The gate closes when it must and only then: python3 benches/counts/test_gate.py"""
import contextlib
import copy
import io
import json
import pathlib
import tempfile
import unittest

import gate


def counts(big=1_000_000, small=10_000, rustc="rustc 1"):
    layers = {
        "pointwise_7x7_8_8": {"kernel": "k", "times": 2, "each": big},
        "add_7x7_8": {"kernel": "a", "times": 1, "each": small},
    }
    return {"rustc": rustc, "isa": "neon", "total": 2 * big + small, "layers": layers}


class Gate(unittest.TestCase):
    def judged(self, after, before=None):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            code = gate.check({"cpu": before or counts()}, {"cpu": after})
        return code, out.getvalue()

    def test_the_same_passes_without_a_hint(self):
        code, text = self.judged(counts())
        self.assertEqual(code, 0)
        self.assertNotIn("costs", text)

    def test_a_layer_that_costs_more_is_named_with_before_and_after(self):
        code, text = self.judged(counts(big=1_021_000))
        self.assertEqual(code, 1)
        self.assertIn("pointwise_7x7_8_8, k: 2.000 -> 2.042", text)
        self.assertEqual(self.judged(counts(big=1_019_000))[0], 0)

    def test_a_small_layer_needs_more_than_the_floor(self):
        self.assertEqual(self.judged(counts(small=14_900))[0], 0)
        self.assertEqual(self.judged(counts(small=15_100))[0], 1)

    def test_many_small_costs_count_in_total(self):
        before = counts()
        before["layers"] = {f"add_{i}": {"kernel": "a", "times": 1, "each": 10_000} for i in range(100)}
        before["total"] = 1_000_000
        after = copy.deepcopy(before)
        for layer in after["layers"].values():
            layer["each"] += 300
        after["total"] += 30_000
        code, text = self.judged(after, before)
        self.assertEqual(code, 1)
        self.assertIn("COSTS MORE cpu: total: 1.000 -> 1.030", text)

    def test_an_improvement_hints_at_a_new_baseline(self):
        code, text = self.judged(counts(big=900_000))
        self.assertEqual(code, 0)
        self.assertIn("--update", text)

    def test_another_compiler_only_warns(self):
        code, text = self.judged(counts(big=2_000_000, rustc="rustc 2"))
        self.assertEqual(code, 0)
        self.assertIn("warning: costs more cpu: total", text)

    def test_layers_that_come_or_go_fail(self):
        after = counts()
        after["layers"]["pool"] = after["layers"].pop("add_7x7_8")
        code, text = self.judged(after)
        self.assertEqual(code, 1)
        self.assertIn("add_7x7_8 is in the baseline but did not run", text)
        self.assertIn("pool is not in the baseline", text)

    def test_what_is_counted_has_a_baseline_with_every_kind_of_layer(self):
        baseline = json.loads(gate.BASELINE.read_text())
        self.assertEqual(sorted(baseline), sorted(gate.CPUS))
        for cpu, counted in baseline.items():
            names = list(counted["layers"])
            if cpu.endswith("-fused"):
                self.assertTrue(any(name.startswith("pair") for name in names), cpu)
            if cpu.endswith(("-fused", "-f32", "-f16")):
                self.assertTrue(any(name.endswith("_adds") for name in names), cpu)
            if cpu.endswith(("-f32", "-f16")):
                kind = cpu[-3:]
                self.assertTrue(all(f"_{kind}_" in layer["kernel"] for layer in counted["layers"].values()), cpu)

    def test_each_layer_of_the_baseline_is_judged(self):
        baseline = json.loads(gate.BASELINE.read_text())
        for cpu, before in baseline.items():
            for name, layer in before["layers"].items():
                if 0.021 * gate.cost(layer) <= gate.FLOOR:
                    continue  # too small to be told from noise
                after = copy.deepcopy(before)
                after["layers"][name]["each"] = int(layer["each"] * 1.021) + 1
                worse, _ = gate.compare(cpu, before, after)
                self.assertEqual(len(worse), 1, name)
                self.assertIn(f"{cpu}: {name}, {layer['kernel']}: ", worse[0])

    def test_a_cpu_without_baseline_fails(self):
        with contextlib.redirect_stdout(io.StringIO()):
            self.assertEqual(gate.check({}, {"cpu": counts()}), 1)

    def test_windows_are_read_less_the_empty_one(self):
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            (folder / "cpu.windows").write_text("window 0 17\nwindow 1 1017\ntotal 5000\n")
            (folder / "cpu.layers").write_text("empty 1 neon\nadd_7x7_8 3 add_u8_neon_16\n")
            (folder / "cpu.rustc").write_text("rustc 1\n")
            counted = gate.read(folder, "cpu")
            self.assertEqual((counted["isa"], counted["total"]), ("neon", 3000))
            (folder / "cpu.windows").write_text("window 0 17\ntotal 5000\n")
            with self.assertRaises(SystemExit):
                gate.read(folder, "cpu")


if __name__ == "__main__":
    unittest.main()
