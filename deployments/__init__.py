"""What differs between machines: worker processes, Dask clusters, images, work pools, training on one host of a cluster."""
