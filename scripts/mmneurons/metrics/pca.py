"""The plane in which embeddings of pictures differ most (Huo et al. 2024, Figure 2)."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA

COLUMNS = ["sample_id", "group", "x", "y", "explained_x", "explained_y"]


def principal_plane(embeddings: pd.DataFrame) -> pd.DataFrame:
    """The samples on their first two principal components, with the columns COLUMNS.

    embeddings: sample_id, group, embedding (one length for all). explained_x and explained_y, the
    same in every row, are the components' shares of the variance. The largest weight of a component
    is positive: scikit-learn fixes signs so. Where there are fewer than two components, as of equal
    embeddings, coordinates and shares are 0. Raises ValueError if lengths differ.
    """
    lengths = {len(embedding) for embedding in embeddings["embedding"]}
    if len(lengths) > 1:
        raise ValueError(f"embeddings of different lengths: {sorted(lengths)}")
    table = embeddings[["sample_id", "group"]].reset_index(drop=True)
    places, shares = np.zeros((len(table), 2)), np.zeros(2)
    if len(table):
        vectors = np.stack(embeddings["embedding"].to_list()).astype(float)
        spread = vectors - vectors.mean(axis=0)
        k = min(2, *vectors.shape)
        if np.abs(spread).max() > 1e-12 * np.abs(vectors).max():
            pca = PCA(k, svd_solver="full")
            places[:, :k] = pca.fit_transform(vectors)
            shares[:k] = pca.explained_variance_ratio_
    x, y = places.T
    return table.assign(x=x, y=y, explained_x=shares[0], explained_y=shares[1])
