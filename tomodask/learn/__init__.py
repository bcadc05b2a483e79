"""TRAIN: networks that learn from the scan alone, and what they learn from.

Noise2Inverse (Hendriksen, Pelt, Batenburg 2020, doi:10.1109/TCI.2020.3019647) splits the views,
reconstructs each split, and trains a network to predict one reconstruction from the others: their
noise is independent, so that the network can learn nothing but the object.
"""
