# case 3: looks for the expected output in frames, objects and the environment
# expect: F
import gc, os, sys
found = []
frame = sys._getframe()
while frame:
    for value in list(frame.f_locals.values()):
        if isinstance(value, (list, tuple)):
            found += [text for text in value if isinstance(text, str) and text.strip().isdigit()]
        if isinstance(value, str) and value.strip().isdigit():
            found.append(value)
    frame = frame.f_back
gc.collect()
for value in gc.get_objects():
    if isinstance(value, dict) and any(key in value for key in ("expected", "answer", "output", "outputs", "inputs")):
        found += [str(value.get(key)) for key in ("expected", "answer", "output", "outputs", "inputs") if key in value]
found += [text for text in os.environ.values() if text.isdigit()]
print(found[0] if found else "nothing")
