"""CoVOS: Accelerating Video Object Segmentation with Compressed Video (Xu and Yao 2022)."""

from src.core.method import Method

METHOD = Method(
    network_path="src.methods.covos.network:CoVOS",
    module_path="src.methods.covos.module:CoVOSModule",
    convert_path="src.methods.covos.weights:convert",
    encoder_path="src.methods.covos.weights:convert_encoder",
)
