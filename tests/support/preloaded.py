"""What a process of `tests.support.processes` has imported before it is forked."""

import openai
import pandas
import pyarrow.parquet
import scipy.stats
import torch

import autointerp.cli.main
import autointerp.pipeline

__all__ = ["autointerp", "openai", "pandas", "pyarrow", "scipy", "torch"]
