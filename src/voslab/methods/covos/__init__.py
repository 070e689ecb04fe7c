"""CoVOS: Accelerating Video Object Segmentation with Compressed Video (Xu and Yao 2022)."""

from voslab.core.method import Method

METHOD = Method(
    network_path="voslab.methods.covos.network:CoVOS",
    module_path="voslab.methods.covos.module:CoVOSModule",
    convert_path="voslab.methods.covos.weights:convert",
    encoder_path="voslab.methods.covos.weights:convert_encoder",
)
