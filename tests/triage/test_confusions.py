"""The confusions that mislead people who read such logs: does triage fall for them?"""

from __future__ import annotations

import pytest

from engine.triage import Finding, classify

TIMEOUT = (
    "[rank{rank}]:[E102 10:{minute}:00.000000000 ProcessGroupNCCL.cpp:629] [Rank {rank}] Watchdog"
    " caught collective operation timeout: WorkNCCL(SeqNum=9, OpType=ALLREDUCE, NumelIn=1,"
    " NumelOut=1, Timeout(ms)=600000) ran for {ran} milliseconds before timing out."
)


def roots(text: str) -> list[str]:
    return [f.class_ for f in found(text) if f.role == "root"]


def found(text: str) -> list[Finding]:
    return classify(text.splitlines())


def of(findings: list[Finding], name: str) -> Finding:
    return next(f for f in findings if f.class_ == name)


def test_1_an_oom_on_one_rank_is_the_root_of_what_the_others_say() -> None:
    text = """\
[rank0]: RuntimeError: [gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:9
[rank3]: recvValue failed on SocketImpl(fd=7): failed to recv, got 0 bytes
[rank1]: torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 4.17 GiB.
W0102 10:00:00.000000 9 torch/distributed/elastic/x.py:9] Sending process 42 closing signal SIGTERM
torch.distributed.elastic.multiprocessing.errors.ChildFailedError: run.py FAILED"""
    findings = found(text)
    root, victim = findings
    assert (root.class_, root.role, root.rank, root.lines) == ("cuda_oom", "root", 1, (3, 3))
    assert (victim.class_, victim.role) == ("peer_rank_died", "victim")
    assert victim.explained_by == "cuda_oom"
    assert victim.remedies == ()


@pytest.mark.parametrize(
    "prefix",
    [
        "[rank2]: ",
        "(Worker_TP2 pid=77) ",
        "[default2]:",
        "[1,2]<stderr>:",
        "[2025-03-01 10:00:00 TP2] ",
        "\x1b[36m[rank2]\x1b[0m: ",
        "3641.2s\t17\t[rank2]: ",
        "run.log:812:[rank2]: ",
        "> > [rank2]: ",
    ],
)
def test_1_prefixes_are_stripped_and_tell_the_rank(prefix: str) -> None:
    (finding,) = found(f"{prefix}torch.OutOfMemoryError: CUDA out of memory.")
    assert (finding.class_, finding.rank) == ("cuda_oom", 2)


def test_1_the_earliest_timestamp_names_the_first_rank_not_the_first_line() -> None:
    text = """\
2025-03-01 10:00:09 [rank0]: RuntimeError: CUDA error: an illegal memory access was encountered
2025-03-01 10:00:07 [rank3]: RuntimeError: CUDA error: an illegal memory access was encountered"""
    (finding,) = found(text)
    assert finding.rank == 3
    assert finding.ranks == (0, 3)


def test_2_a_timeout_that_ran_to_its_limit_is_a_hang_of_some_rank() -> None:
    assert roots(TIMEOUT.format(rank=1, minute=30, ran=600_012)) == ["nccl_timeout_watchdog"]


def test_2_a_timeout_after_seconds_is_a_dead_peer() -> None:
    (finding,) = found(TIMEOUT.format(rank=1, minute=30, ran=2_100))
    assert (finding.class_, finding.role) == ("peer_rank_died", "victim")


def test_2_a_watchdog_ended_by_a_cuda_error_is_no_timeout() -> None:
    text = (
        "[rank0]: [PG ID 0 Rank 0] Process group watchdog thread terminated with exception: CUDA"
        " error: an illegal memory access was encountered\n"
        "[rank0]: To avoid data inconsistency, we are taking the entire process down."
    )
    assert [f.class_ for f in found(text)] == ["illegal_memory_access"]


def test_2_the_rank_that_is_behind_is_named() -> None:
    line = "[Rank {}] Timeout at NCCL work: 9, last enqueued NCCL work: 9, last completed work: {}."
    text = "\n".join(line.format(rank, done) for rank, done in ((0, 8), (1, 8), (2, 5)))
    (finding,) = found(text)
    assert "rank 2 is behind" in finding.cause


def test_3_an_nccl_error_that_is_memory() -> None:
    text = """\
torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:1, unhandled cuda error
ncclUnhandledCudaError: Call to CUDA function failed.
Last error:
Failed to CUDA calloc 1048576 bytes"""
    assert [f.class_ for f in found(text)] == ["cuda_oom"]


def test_3_an_absurd_allocation_after_a_timeout_is_fallout() -> None:
    text = (
        TIMEOUT.format(rank=0, minute=30, ran=600_012)
        + "\n[rank0]: torch.OutOfMemoryError: CUDA out of memory. Tried to allocate more than 1EB"
        " memory."
    )
    findings = found(text)
    assert findings[0].class_ == "nccl_timeout_watchdog"
    assert of(findings, "cuda_oom").role == "victim"


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.", "cuda_oom"),
        ("DefaultCPUAllocator: can't allocate memory: you tried to allocate", "host_oom_killed"),
        ("      Reason:       OOMKilled", "host_oom_killed"),
        ("2 Workers (tasks / actors) killed due to memory pressure (OOM)", "host_oom_killed"),
        ("unable to open shared memory object </torch_7_1> in read-write mode", "nccl_p2p_or_shm"),
        ("OutOfResources: out of resource: shared memory, Required: 9, Hardware limit: 8",
         "compile_failure"),
        ("No available shared memory broadcast block found in 60 seconds.", "hang_no_progress"),
    ],
)  # fmt: skip
def test_4_which_memory(line: str, name: str) -> None:
    assert [f.class_ for f in found(line)] == [name]


def test_5_no_space_left_may_be_shared_memory() -> None:
    shm = "misc/shmutils.cc:72 NCCL WARN Call to posix_fallocate failed: No space left on device"
    assert [f.class_ for f in found(shm)] == ["nccl_p2p_or_shm"]
    assert [f.class_ for f in found("OSError: [Errno 28] No space left on device")] == ["disk_full"]
    quota = "OSError: [Errno 122] Disk quota exceeded: 'out.mp4'"
    assert [f.class_ for f in found(quota)] == ["disk_full"]


def test_5_a_writer_that_failed_never_mentions_the_disk() -> None:
    line = "RuntimeError: [enforce fail at inline_container.cc:603] . unexpected pos 2048 vs 1984"
    assert [f.class_ for f in found(line)] == ["disk_full"]


@pytest.mark.parametrize(
    "advice",
    [
        "Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.",
        "If you are running out of memory, consider decreasing `gpu_memory_utilization`.",
        "This can cause a hang if this rank to GPU mapping is incorrect.",
        "If reserved memory is large try setting max_split_size_mb to avoid fragmentation.",
    ],
)
def test_6_advice_is_no_evidence(advice: str) -> None:
    assert found(advice) == []


def test_6_advice_in_the_same_line_hides_nothing() -> None:
    text = (
        "RuntimeError: CUDA error: unspecified launch failure. Compile with `TORCH_USE_CUDA_DSA`"
        " to enable device-side assertions."
    )
    assert roots(text) == ["illegal_memory_access"]


def test_7_a_bare_killed_is_only_likely_to_be_memory() -> None:
    (finding,) = found("loading shard 3 of 4\nKilled")
    assert finding.class_ == "host_oom_killed"
    assert finding.confidence < 0.6
    (proven,) = found("Memory cgroup out of memory: Killed process 9 (python)\nKilled")
    assert proven.confidence > 0.9


def test_7_a_killed_child_of_a_launcher_that_kills_its_tree_is_no_memory() -> None:
    text = "RuntimeError: CUDA error: misaligned address\nKilling subprocess 41\nKilled"
    assert roots(text) == ["illegal_memory_access"]


def test_7_signal_killed_is_ram_and_bus_error_is_shared_memory() -> None:
    line = "RuntimeError: DataLoader worker (pid 8) is killed by signal: {}."
    assert roots(line.format("Killed")) == ["host_oom_killed"]
    assert roots(line.format("Bus error")) == ["nccl_p2p_or_shm"]


def test_8_a_bare_assertion_is_classified_by_its_source_line() -> None:
    frame = '  File "attention.py", line 88, in forward\n    assert {}\nAssertionError'
    assert roots(frame.format("FLASH_ATTN_2_AVAILABLE")) == ["import_or_dependency"]
    assert roots(frame.format("e[0].dtype == torch.float32")) == ["dtype_or_shape_error"]


def test_9_a_bare_driver_oom_points_at_another_holder() -> None:
    (finding,) = found("RuntimeError: CUDA error: out of memory")
    assert finding.class_ == "cuda_oom"
    assert finding.remedies[0].id == "kill_holder"
    assert finding.remedies[0].action == {"kind": "kill_holder"}


@pytest.mark.parametrize(
    "line",
    [
        "            HW Thermal Slowdown           : Not Active",
        "  checkpoint_tag_validation_fail .............. False",
        "    DRAM Uncorrectable            : 0",
        "Compile errors                         0",
        "  max_tokens_to_oom ........................... 16000",
        "  nccl_timeout_watchdog_enabled ............... True",
    ],
)
def test_10_a_key_without_its_value_is_nothing(line: str) -> None:
    assert found(line) == []


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ("GPU 0 has a total capacty of 23.65 GiB of which 1.00 MiB is free",
         "GPU 0 has a total capacity of 23.65 GiB of which 1.00 MiB is free", "cuda_oom"),
        ("torch.cuda.OutOfMemoryError: x", "torch.OutOfMemoryError: x", "cuda_oom"),
        ("SafetensorError: Error while deserializing header: HeaderTooLarge",
         "SafetensorError: Error while deserializing header: header too large",
         "checkpoint_corrupt"),
        ("RuntimeError: CUDA error: misaligned address",
         "torch.AcceleratorError: CUDA error: misaligned address", "illegal_memory_access"),
        ("Out of memory: Kill process 7 (python) score 9",
         "Out of memory: Killed process 7 (python)", "host_oom_killed"),
        ("Clocks Throttle Reasons\n  HW Slowdown : Active",
         "Clocks Event Reasons\n  HW Slowdown : Active", "thermal_throttle_or_power"),
    ],
)  # fmt: skip
def test_11_wording_drifts(old: str, new: str, name: str) -> None:
    assert roots(old) == roots(new) == [name]


def test_12_a_progress_bar_and_an_error_on_one_line() -> None:
    bar = " 40%|████      | 4/10 [00:03<00:05,  1.2it/s]\r 50%|█████     | 5/10 "
    text = bar + "torch.OutOfMemoryError: CUDA out of memory."
    assert roots(text) == ["cuda_oom"]


@pytest.mark.parametrize("width", [64, 80, 100])
def test_12_a_message_wrapped_by_the_terminal_anywhere(width: int) -> None:
    message = (
        "x"
        * 50
        + " RuntimeError: probability tensor contains either `inf`, `nan` or element < 0, and some"
        " more words that follow it until another line is full and one more begins"
    )
    text = "\n".join(message[n : n + width] for n in range(0, len(message), width))
    assert roots(text) == ["device_side_assert"]


def test_12_reversed_logs_windows_paths_and_rocm() -> None:
    text = """\
2025-03-01T10:00:05Z [rank0]: Connection closed by peer [10.0.0.1]:7
2025-03-01T10:00:04Z [rank1]: HIP error: an illegal memory access was encountered
2025-03-01T10:00:03Z   File "C:\\venv\\Lib\\torch\\cuda\\__init__.py", line 7, in sync"""
    findings = found(text)
    assert (findings[0].class_, findings[0].rank) == ("illegal_memory_access", 1)
    assert findings[1].role == "victim"


def test_12_several_messages_on_one_line() -> None:
    text = (
        "ERROR: Missing key(s) in state_dict: 'a.weight' | OSError: [Errno 28] No space left on"
        " device | Sending process 4 closing signal SIGTERM"
    )
    findings = found(text)
    assert findings[0].class_ == "disk_full"
    assert findings[-1].role == "victim"


@pytest.mark.parametrize(
    "line",
    [
        '        logger.warning(f"CUDA out of memory, once more with {size} frames")',
        '    if "out of memory" in str(error).lower():',
        "    except torch.cuda.OutOfMemoryError:",
        '    "CUDA error: an illegal memory access was encountered",',
        '      return "CUBLAS_STATUS_ALLOC_FAILED";',
        '  if (text.includes("EADDRINUSE")) {',
        '    if strings.Contains(err.Error(), "connection reset by peer") {',
        '    LOG(ERROR) << "Watchdog caught collective operation timeout: " << work;',
        '        self.assertIn("Read-only file system", told)',
        "  { pattern: /no space left|disk quota exceeded/i, code: 'FULL' },",
        'PORT_TAKEN = "OSError: [Errno 98] Address already in use"',
        '   ("[Errno 13] Permission denied", DENIED),',
        "#define ENOSPC 28 /* No space left on device */",
        '// fails with "moov atom not found" where the file was cut',
        "$ dmesg | grep 'Out of memory: Killed process'",
    ],
)
def test_source_code_is_no_evidence(line: str) -> None:
    assert found(line) == []


def test_what_an_error_says_is_evidence_even_where_it_looks_like_code() -> None:
    trace = """\
  File "serve.py", line 9, in start
    raise ValueError(f"No available memory for the cache blocks of {name}.")
ValueError: No available memory for the cache blocks of kv."""
    (finding,) = found(trace)
    assert (finding.class_, finding.lines) == ("cuda_oom", (3, 3))
    assert roots('RayTaskError: RuntimeError("CUDA error: misaligned address")') == [
        "illegal_memory_access"
    ]
    assert roots('{"error": "CUDA out of memory. Tried to allocate 2.00 GiB"}') == ["cuda_oom"]


def test_a_worker_that_compiles_is_awaited_and_one_that_does_nothing_hangs() -> None:
    wait = "INFO 01-01 10:0{}:00 [shm_broadcast.py:5] No available shared memory broadcast block"
    compiling = "INFO 01-01 10:00:59 [backends.py:3] Cache the graph of compile range (1, 2048)"
    assert found(f"{compiling}\n{wait.format(1)}") == []
    assert roots(f"{wait.format(1)}\n{wait.format(2)}") == ["hang_no_progress"]
    late = (
        '  File "shm_broadcast.py", line 4, in acquire_read\n    raise TimeoutError\nTimeoutError'
    )
    assert roots(late) == ["hang_no_progress"]


def test_nccl_goes_on_without_nvls_unless_it_cannot_bind() -> None:
    where = "transport/nvls.cc:2{} NCCL WARN "
    assert found(where.format(1) + "Cuda failure 1 'invalid argument'") == []
    bound = where.format(2) + "Failed to bind NVLink SHARP (NVLS) Multicast memory of size 4096"
    assert roots(bound) == ["nccl_init_failure"]


@pytest.mark.parametrize(
    "line",
    [
        "warning: failed to mlock 4096-byte buffer (after 0 bytes): Cannot allocate memory",
        "Common causes: insufficient VRAM, unsupported format, corrupt file",
        "- zero `Watchdog caught collective operation timeout` messages",
        "email address already in use by another account",
        "[I] [TRT] Some tactics do not have sufficient workspace memory to run.",
        "2026-01-01 10:00:00.1 [W:onnxruntime:, folding.cc:2 Apply] Could not find a CPU kernel",
    ],
)
def test_likenesses_of_faults_are_none(line: str) -> None:
    assert found(line) == []


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Device 1: peer-to-peer access is unsupported here", "nccl_p2p_or_shm"),
        ("  assert fp8_ready, why\nAssertionError: FP8 requires a newer device", "fp8_unsupported"),
        ("  assert is_fp8_available\nAssertionError: compute capability >= 8.9", "fp8_unsupported"),
    ],
)
def test_what_says_why_goes_before_what_it_looks_like(text: str, name: str) -> None:
    assert roots(text) == [name]


def test_a_launcher_that_lost_the_others_is_a_victim() -> None:
    (finding,) = found(
        "WARNING:dynamic_rendezvous:The node 'gpu07_1' has failed to send a keep-alive heartbeat to"
        " the rendezvous 'r' due to an error of type RendezvousConnectionError."
    )
    assert (finding.class_, finding.role) == ("peer_rank_died", "victim")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("nvmlDeviceGetHandleByIndex(1): Unknown Error", "xid_or_fallen_off_bus"),
        ("Unable to detect the device handle for GPU0000:81:00.0", "xid_or_fallen_off_bus"),
        ("a:1:1 [0] NCCL WARN nvmlDeviceGetHandleByPciBusId() failed: Not Found",
         "nccl_init_failure"),
        ("[mp4 @ 0x5] Could not write header for output file #0", "ffmpeg_or_decode_failure"),
        ("[webm @ 0x5] Only VP8, VP9 and AV1 are supported for WebM.", "ffmpeg_or_decode_failure"),
        ("audioread.ffdec.ReadTimeoutError: ", "ffmpeg_or_decode_failure"),
    ],
)  # fmt: skip
def test_one_fault_in_several_wordings(text: str, name: str) -> None:
    assert roots(text) == [name]
