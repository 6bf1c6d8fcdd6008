# ruff: noqa
import ast, os, sys, sysconfig, time

end = time.time() + 6
for base, _, files in os.walk(sysconfig.get_paths()["stdlib"]):
    for f in files:
        if f.endswith(".py") and time.time() < end:
            try:
                compile(ast.parse(open(os.path.join(base, f), encoding="utf-8").read()), f, "exec")
            except Exception:
                pass
