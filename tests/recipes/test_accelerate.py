"""The launch configs: accelerate itself reads them, and they say what training relies on."""

from pathlib import Path

import pytest
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file

FOLDER = Path(__file__).parents[2] / "recipes" / "accelerate"
KINDS = {
    "one_gpu": "NO",
    "ddp": "MULTI_GPU",
    "fsdp2": "FSDP",
    "deepspeed_zero2": "DEEPSPEED",
    "deepspeed_zero3": "DEEPSPEED",
    "multi_node": "MULTI_GPU",
}


def load(name: str) -> ClusterConfig:
    return load_config_from_file(str(FOLDER / f"{name}.yaml"))


def test_every_file_is_known_here():
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_accelerate_reads_it(name: str):
    config = load(name)
    assert str(getattr(config.distributed_type, "value", config.distributed_type)) == KINDS[name]
    assert config.num_processes == {"one_gpu": 1, "multi_node": 16}.get(name, 8)
    assert config.num_machines == (2 if name == "multi_node" else 1)
    assert not config.use_cpu
    # the environment that a file sets would win over a recipe with bf16: false
    assert config.mixed_precision == "no"


def test_fsdp_leaves_the_embedding_a_matrix_that_can_be_gathered():
    config = load("fsdp2").fsdp_config
    assert config["fsdp_version"] == 2
    assert config["fsdp_auto_wrap_policy"] == "TRANSFORMER_BASED_WRAP"
    assert config["fsdp_state_dict_type"] == "FULL_STATE_DICT"
    # without the old rows there is nothing to draw the new ones from
    assert config["fsdp_cpu_ram_efficient_loading"] is False


@pytest.mark.parametrize(("name", "stage"), [("deepspeed_zero2", 2), ("deepspeed_zero3", 3)])
def test_deepspeed_has_its_stage_and_loads_whole_weights(name: str, stage: int):
    config = load(name).deepspeed_config
    assert config["zero_stage"] == stage
    assert config["zero3_init_flag"] is False
    assert config.get("zero3_save_16bit_model", False) is (stage == 3)


def test_zero3_says_that_it_has_no_self_similarity():
    text = (FOLDER / "deepspeed_zero3.yaml").read_text(encoding="utf-8")
    assert "self_similarity_weight: 0" in text


def test_several_machines_say_where_they_meet():
    config = load("multi_node")
    assert config.main_process_port
    assert config.main_process_ip
