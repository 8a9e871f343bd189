"""What is shown of ONNX Runtime's errors: why, whole, and not where in its own sources."""

from models.onnx import LONGEST_REASON, _reason

import pytest

SOURCES = "/onnxruntime_src/onnxruntime/core"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (
            f"[ONNXRuntimeError] : 1 : FAIL : Load model from /a b/m.onnx failed:{SOURCES}/graph/"
            "model.cc:256 onnxruntime::Model::Model(onnx::ModelProto&&, const onnxruntime::"
            "PathString&, const std::function<void(int)>&) Unsupported model IR version: 99, max "
            "supported IR version: 13\n",
            "Unsupported model IR version: 99, max supported IR version: 13",
        ),
        (
            f"[ONNXRuntimeError] : 1 : FAIL : Load model from m.onnx failed:{SOURCES}/graph/"
            "model_load_utils.h:46 void onnxruntime::model_load_utils::ValidateOpsetForDomain("
            "const std::unordered_map<std::__cxx11::basic_string<char>, int>&, bool, int) ONNX "
            "Runtime only *guarantees* support. Opset 99 is under development.",
            "ONNX Runtime only *guarantees* support. Opset 99 is under development.",
        ),
        (
            "[ONNXRuntimeError] : 1 : FAIL : CUDNN failure 4: CUDNN_STATUS_INTERNAL_ERROR ; GPU=0 "
            f"; hostname=me ; file={SOURCES}/providers/cuda/cuda_provider.cc ; line=182 ; "
            "expr=cudnnSetStream(handle, stream);",
            "CUDNN failure 4: CUDNN_STATUS_INTERNAL_ERROR ; GPU=0 ; expr=cudnnSetStream(handle,"
            " stream);",
        ),
        (
            "[ONNXRuntimeError] : 7 : INVALID_PROTOBUF : Load model from m.onnx failed:Protobuf "
            "parsing failed.",
            "Protobuf parsing failed.",
        ),
        (
            "Error: tensorprotoutils.cc:461 Validate No such path: w.bin",
            "Error: No such path: w.bin",
        ),
    ],
)
def test_the_sentence_that_says_why(said: str, shown: str) -> None:
    assert _reason(Exception(said)) == shown


@pytest.mark.parametrize("part", ["a", "a.cc:1 ", "x.cc:1 a::b(", "("])
def test_names_of_any_length(part: str) -> None:
    assert len(_reason(Exception(part * 10**5))) <= LONGEST_REASON
