"""CoVOS: Accelerating Video Object Segmentation with Compressed Video (Xu and Yao 2022)."""

from src.core.method import Method

METHOD = Method(
    network_path="src.methods.covos.network:CoVOS",
    convert_path="src.methods.covos.weights:convert",
)
