"""TRAIN: networks that learn from the scan alone, and what they learn from.

Noise2Inverse (Hendriksen, Pelt, Batenburg 2020, doi:10.1109/TCI.2020.3019647) splits the views,
reconstructs each split, and trains a network to predict one reconstruction from the others: their
noise is independent, so that the network can learn nothing but the object.
"""

import os

# Read by torch at its first tensor. What a layer makes of a large slice is memory that the system
# clears page by page, for each layer anew: by large pages a U-Net over 1024^2 voxels is 1.8 times
# as fast, and takes no more memory (to keep what was freed would be as fast, and takes 1.6 times)
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
