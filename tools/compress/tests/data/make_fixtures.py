#!/usr/bin/env python3
"""Writes the torch files of this folder, without torch.

Stand-ins for torch's names make the pickler write what `torch.save` writes; storages go through
`persistent_id` as they do there. Run it only to add a case: the files are committed.
"""
import collections
import io
import os
import pathlib
import pickle
import struct
import sys
import types
import zipfile

here = pathlib.Path(__file__).resolve().parent

torch = types.ModuleType("torch")
utils = types.ModuleType("torch._utils")


def stand_in(module, name):
    def function(*arguments):
        raise AssertionError("only named, never called")
    function.__module__, function.__qualname__, function.__name__ = module.__name__, name, name
    setattr(module, name, function)
    return function


rebuild = stand_in(utils, "_rebuild_tensor_v2")
parameter = stand_in(utils, "_rebuild_parameter")
sys.modules["torch"], sys.modules["torch._utils"] = torch, utils
KINDS = {}
for kind, code in [("Double", "d"), ("Float", "f"), ("Half", "e"), ("BFloat16", None), ("Long", "q"),
                   ("Int", "i"), ("Short", "h"), ("Char", "b"), ("Byte", "B"), ("Bool", "?")]:
    KINDS[kind] = type(f"{kind}Storage", (), {"__module__": "torch"})
    setattr(torch, f"{kind}Storage", KINDS[kind])
    KINDS[kind].code = code


class Storage:
    def __init__(self, kind, values):
        self.kind, self.values = kind, values

    def data(self, order="<"):
        if self.kind == "BFloat16":
            return b"".join(struct.pack("<f", v)[2:] for v in self.values)
        return struct.pack(f"{order}{len(self.values)}{KINDS[self.kind].code}", *self.values)


class Tensor:
    def __init__(self, storage, offset, shape, strides):
        self.arguments = (storage, offset, shape, strides, False, collections.OrderedDict())

    def __reduce__(self):
        return rebuild, self.arguments


class Parameter:
    def __init__(self, tensor):
        self.tensor = tensor

    def __reduce__(self):
        return parameter, (self.tensor, True, collections.OrderedDict())


class Evil:
    def __reduce__(self):
        return os.system, ("echo this must never run",)


class Pickler(pickle.Pickler):
    def __init__(self, file, protocol, legacy):
        super().__init__(file, protocol)
        self.storages, self.legacy = {}, legacy

    def persistent_id(self, value):
        if not isinstance(value, Storage):
            return None
        key = str(list(self.storages).index(id(value)) if id(value) in self.storages else len(self.storages))
        self.storages[id(value)] = (key, value)
        found = ("storage", KINDS[value.kind], key, "cpu", len(value.values))
        return found + (None,) if self.legacy else found


def save_zip(name, value, protocol=2, order="little"):
    program = io.BytesIO()
    pickler = Pickler(program, protocol, False)
    pickler.dump(value)
    with zipfile.ZipFile(here / name, "w") as archive:
        def write(path, data):
            archive.writestr(zipfile.ZipInfo(f"archive/{path}", (2020, 1, 1, 0, 0, 0)), data)
        write("data.pkl", program.getvalue())
        write("byteorder", order)
        for key, storage in pickler.storages.values():
            write(f"data/{key}", storage.data())
        write("version", "3\n")


def save_legacy(name, value, little=True):
    with open(here / name, "wb") as file:
        pickle.dump(0x1950A86A20F9469CFC6C, file, protocol=2)
        pickle.dump(1001, file, protocol=2)
        sizes = {"short": 2, "int": 4, "long": 4}
        pickle.dump({"protocol_version": 1001, "little_endian": little, "type_sizes": sizes}, file, protocol=2)
        pickler = Pickler(file, 2, True)
        pickler.dump(value)
        storages = sorted(pickler.storages.values(), key=lambda found: found[0])
        pickle.dump([key for key, _ in storages], file, protocol=2)
        for _, storage in storages:
            file.write(struct.pack("<q", len(storage.values)) + storage.data())


def state_dict():
    counting = Storage("Float", [float(i) for i in range(24)])
    state = collections.OrderedDict()
    state["dense"] = Tensor(counting, 0, (2, 3, 4), (12, 4, 1))
    state["permuted"] = Tensor(counting, 0, (4, 2, 3), (1, 12, 4))  # dense.permute(2, 0, 1)
    state["tail"] = Tensor(counting, 20, (4,), (1,))  # dense.flatten()[20:]
    state["expanded"] = Tensor(counting, 5, (3, 2), (0, 1))
    state["parameter"] = Parameter(Tensor(counting, 1, (2,), (1,)))
    values = [1.5, -2.0, 0.25]
    for kind in ["Double", "Half", "BFloat16"]:
        state[kind.lower()] = Tensor(Storage(kind, values), 0, (3,), (1,))
    for kind in ["Long", "Int", "Short", "Char"]:
        state[kind.lower()] = Tensor(Storage(kind, [7, -8]), 0, (2,), (1,))
    state["byte"] = Tensor(Storage("Byte", [7, 200]), 0, (2,), (1,))
    state["bool"] = Tensor(Storage("Bool", [True, False]), 0, (2,), (1,))
    state["scalar"] = Tensor(Storage("Long", [3]), 0, (), ())
    state["empty"] = Tensor(Storage("Float", []), 0, (0, 3), (3, 1))
    state._metadata = collections.OrderedDict([("", {"version": 1})])
    return state


small = Storage("Float", [1.0, 2.0])
prefixed = collections.OrderedDict([("module.a", Tensor(small, 0, (2,), (1,)))])
save_zip("zip.pth", state_dict())
save_zip("zip_protocol4.pth", state_dict(), protocol=4)
save_legacy("legacy.pth", state_dict())
save_zip("wrapped.pth", {"epoch": 3, "loss": 0.5, "name": "x", "model": {"state_dict": prefixed, "best": None}})
save_zip("big_endian.pth", state_dict(), order="big")
save_legacy("big_endian_legacy.pth", state_dict(), little=False)
save_zip("outside.pth", {"a": Tensor(small, 1, (2,), (1,))})
save_zip("evil.pth", {"a": Tensor(small, 0, (2,), (1,)), "b": Evil()})
save_legacy("evil_legacy.pth", {"a": Evil()})
save_zip("number.pth", {"a": 3})
save_zip("list.pth", [Tensor(small, 0, (2,), (1,))])
