"""The whole job on files, as `autointerp run` does it, and its results in pandas.

The demo's model, SAE and text come with the package, and rules write the labels: no key and no
network are needed. With a model, add model="…" and base_url="…", and set OPENAI_API_KEY.
"""

import autointerp as ai

run = ai.run(
    subject="demo",  # a folder, a .gguf file or a Hugging Face id
    sae="demo",  # a path, hf:owner/repository/file or saelens:release/id
    text="demo",  # a file, a folder or hf:owner/dataset
    tokens=30_000,
    features="random:30",
    out="outputs/from-files",
)
print(run)

labels = run.labels()
best = labels.sort_values("detection_balanced_accuracy", ascending=False).head(5)
columns = ["feature", "label", "detection_balanced_accuracy", "detection_null"]
print(best[columns].to_string(index=False))
print(run.feature(int(best["feature"].iloc[0])))

try:
    ai.run(sae="demo", tokens=30_000, features="random:30", out="outputs/from-files", modle="x")
except ai.ConfigurationError as error:
    print(error)
