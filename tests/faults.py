"""Deliberate faults, one at a time in a copy of the source, and the test that catches each.

    uv run python tests/faults.py                  # all of them, and the table in docs/faults.md from what was found
    uv run python tests/faults.py lost-eta …       # some, without the table
    uv run python tests/faults.py --jobs 4         # so many at a time; as many as there are cores unless given
    uv run python tests/faults.py --list
    uv run python tests/faults.py --page           # the table again, from the results of the last whole run

What a suite is worth shows when something is wrong. Every fault below is a mistake that could be made in a line of the
solver: a sign, a factor, a transposed index, a step left out. The copy's tests first pass as they are; then each fault
is put in alone, and must turn its one test into a failure, which must be one of numbers and messages: a mutant that
dies of a name that is not there is not caught (`support/fault_runner.py`). Exit code 1 says that a fault survived or
was not caught for the right reason, 2 that something else went wrong: a text that is no longer in its file, or tests
that could not be collected.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from support.fault_runner import ROOT, Fault, FaultError, Verdict, check_clean, check_texts, copies, judge

PAGE, RESULTS = ROOT / "docs" / "faults.md", ROOT / "docs" / "studies" / "faults.json"
NUMERICS = ("mfpde/limit", "mfpde/problem", "mfpde/finite", "mfpde/comparison")

KERNEL = "tests/unit/test_transport.py::test_kernel_equals_assembled_form[1-0-{}]"
POTENTIAL = "tests/exact/test_identities.py::test_nodal_potential_is_the_depth_recursions"
TWO_RANKS = "tests/parallel/test_right_hand_side.py"
FINITE_TRAIN = "mfpde/finite/methods.py"
PARTICLES = "tests/unit/test_particle_study.py::test_{}"
COMPARE, EXTRAPOLATED = "tests/exact/test_comparison.py::test_{}", "tests/exact/test_extrapolation.py::test_{}"
VERDICT = "tests/exact/test_verdict.py::test_{}"
DESCENT, DESCENT_STEPPER = "mfpde/problem/descent.py", "mfpde/limit/descent/descent_stepper.py"
BY_STEPS, FINITE_STEPS = "tests/exact/test_descent.py::test_{}", "mfpde/finite/optimiser_steps.py"
FINITE_BY_STEPS = "tests/exact/test_finite_optimisers.py::test_{}"
NOISE = PARTICLES.format("noise_of_a_unit_does_not_depend_on_the_number_of_units_or_layers")
COLUMNS = "tests/exact/test_report_columns.py::test_{}"
CERTIFICATE = "tests/exact/test_certificate.py::test_{}"
HEAD_GAP = CERTIFICATE.format("linear_head_bounds_what_is_missing_though_the_minimum_is_far_outside_the_mesh[0.0]")
VISION = "tests/unit/test_vision_transformer.py::test_{}"
VIT = "mfpde/problem/models/vision.py"
NEURON_GAP = CERTIFICATE.format("neurons_gap_against_brute_force_and_other_measures")
START, LAWS = "tests/exact/test_initial_laws.py::test_{}", "tests/unit/test_laws.py::test_{}"
LAW_QUADRATURE, NODE_WEIGHTS = "mfpde/limit/fem/law_quadrature.py", "mfpde/limit/lagrangian/node_weights.py"
INDICES = "tests/unit/test_frame.py::test_theta_inverse_determinant_and_metric[2]"
MOVING = "tests/unit/test_frame.py::test_a_moving_frame_leaves_the_velocity_in_theta[2]"
FOLLOWING = "tests/unit/test_frame.py::test_following_keeps_mean_and_covariance"
ORDER = "tests/unit/test_stepper.py::test_order_three_with_a_frame_that_moves"
ESTIMATE = "tests/unit/test_stepper.py::test_the_estimate_is_the_distance_of_the_pair"
CUBIC = "tests/unit/test_multirate.py::test_the_extrapolation_of_a_parabola_is_exact_and_its_error_for_a_cubic_is_known"
STIFF = "tests/unit/test_multirate.py::test_direct_steps_where_the_potential_is_stiff"
CORRECTED = "tests/unit/test_multirate.py::test_the_estimate_is_the_error_before_the_correction"
STABLE = "tests/unit/test_stepper.py::test_the_stable_step_is_nine_tenths_of_the_largest"
SETTLED = "tests/exact/test_stationarity.py::test_it_ends_at_the_step_where_the_dissipation_is_known_to_fall_below[{}]"
COUNTED = "tests/exact/test_stationarity.py::test_undershoots_do_not_pass_for_stationarity"
CONVEX = (
    "tests/exact/test_convex_energy.py::test_neurons_in_one_basin_reach_the_minimum_"
    "and_the_gap_bounds_what_is_missing[{}]"
)
RETRIED = "tests/unit/test_stepper.py::test_what_is_above_the_tolerance_is_tried_again_from_the_same_state"

HOT = "tests/exact/test_temperature.py::test_{}"
ASSEMBLED = "tests/unit/test_diffusion.py::test_operator_equals_assembled_form[1-{}]"
IMPLICIT = "tests/unit/test_diffusion.py::test_the_implicit_step_solves_its_system[quadrilateral]"

PENALTY_KERNELS = "mfpde/limit/diffusion/interior_penalty_kernels.py"
DIFFUSION, PENALTY, IMEX = (
    "mfpde/limit/diffusion/diffusion.py",
    "mfpde/limit/diffusion/interior_penalty.py",
    "mfpde/limit/timestepping/imex.py",
)
ENTROPY, PARTITION, REPORTS = (
    "mfpde/limit/diffusion/entropy.py",
    "mfpde/limit/certificate/partition_function.py",
    "mfpde/limit/diagnostics/reporter.py",
)
TRANSPORT, KERNELS, FLOW = (
    "mfpde/limit/transport/transport.py",
    "mfpde/limit/transport/general_kernels.py",
    "mfpde/limit/gradient_flow.py",
)
PAIR, FORECAST, MULTIRATE = (
    "mfpde/limit/timestepping/runge_kutta.py",
    "mfpde/limit/timestepping/extrapolation.py",
    "mfpde/limit/timestepping/multirate.py",
)
GENERAL, BOX = "mfpde/limit/transport/general.py", "mfpde/limit/transport/tensor.py"
BOXES, BOX_MOMENTS = "mfpde/limit/transport/tensor_kernels.py", "mfpde/limit/transport/tensor_moments.py"
FRAMES, MESH, STEP = "mfpde/limit/fem/frame.py", "mfpde/limit/fem/mesh.py", "mfpde/limit/timestepping/stepper.py"
DIAGNOSTICS, GATHER, UNITS = (
    "mfpde/limit/diagnostics/mesh_diagnostics.py",
    "mfpde/limit/diagnostics/sampled_fields.py",
    "mfpde/limit/fem/moments.py",
)
SWEEP, LIBRARY, RESTART = "mfpde/limit/backprop.py", "mfpde/problem/models/low_dimensional.py", "mfpde/limit/restart.py"
ELEMENTS, PROJECTION, COLLAPSE = (
    "mfpde/limit/fem/finite_elements.py",
    "mfpde/limit/fem/projection.py",
    "mfpde/limit/fem/collapse.py",
)
HOT_FLOW, DIRECT, CONTROL = (
    "mfpde/limit/diffusive_flow.py",
    "mfpde/limit/timestepping/direct_steps.py",
    "mfpde/limit/timestepping/step_control.py",
)
MODEL, GAP, PROBES = (
    "mfpde/problem/transformer.py",
    "mfpde/limit/certificate/certificate.py",
    "mfpde/limit/certificate/potential_probes.py",
)
PROGRAM, MINIMUM, COVER = (
    "mfpde/problem/programs.py",
    "mfpde/limit/certificate/minimisation.py",
    "mfpde/limit/certificate/branch_and_bound.py",
)
FOUND = "tests/exact/test_least_potential.py::test_the_gap_is_within_one_per_cent_and_above_what_is_missing[narrow-1.0]"
SHARED = "tests/unit/test_shared_programs.py"
MIDPOINTS = (
    "tests/exact/test_midpoint_rule.py::test_smooth_functions_are_integrated_to_what_lies_beyond_the_rule[24-0.0002]"
)
NODES = "tests/exact/test_potential_probes.py::test_probes_are_the_nodes_of_class_attention"
RUN, TABLES = "mfpde/runs/limit_run.py", "mfpde/output/records/tables.py"
LATTICE, CUT = "mfpde/output/fields/lattice.py", "tests/unit/test_output_density.py::test_every_filter_keeps_the_layer"
CHECKPOINT, GENERATIONS = "mfpde/output/checkpoint/checkpoint.py", "mfpde/output/checkpoint/generations.py"
RESUME = "tests/restart/test_resume.py::"
SOLVER = "mfpde/limit/solver.py"
TABLE_SIZE, OF_TABLES = "mfpde/limit/tables/table_size.py", "tests/exact/test_table_size.py::"
COMPANION, SPECIFICATION = "mfpde/limit/companion.py", "mfpde/limit/specification.py"
THRESHOLD_WARNINGS = "mfpde/output/records/threshold_warnings.py"
WORKING_RANKS = "mfpde/parallel/working_ranks.py"
DEVICE = "tests/unit/test_device.py::test_{}"
SINGLE = "tests/unit/test_precision.py::test_{}"
RISK_ERROR = "tests/unit/test_risk_error_estimate.py::"
RECORDS = "tests/unit/test_run_tables.py::test_{}"
LIMITER, POSITIVITY = "mfpde/limit/positivity/bernstein.py", "mfpde/limit/positivity/limiter.py"
POSITIVE = "tests/exact/test_positivity.py::test_{}"
SCHEME = POSITIVE.format("the_scheme_is_nonnegative_at_its_points_and_keeps_the_mass[quadrilateral-2]")
NEAREST = POSITIVE.format("no_nonnegative_polynomial_is_nearer[quadrilateral]")
SEEN = POSITIVE.format("values_at_the_points_are_all_that_the_transformer_sees[quadrilateral-1]")
TAKEN_UP = POSITIVE.format("frames_take_up_what_mean_and_covariance_lost")
CELL_MASSES, TORN_CELLS = "mfpde/limit/diagnostics/cell_masses.py", "tests/exact/test_lagrangian_nodes.py::test_{}"
LAGRANGIAN, REMAP = "mfpde/limit/lagrangian/grid.py", "mfpde/limit/lagrangian/remap.py"
OF_NODES, NODES_FOLLOW = "mfpde/limit/tables/tabulated_nodes.py", "mfpde/limit/lagrangian/following_nodes.py"
CLOUDS, SEQUENCES = "mfpde/limit/sampled/sampled_nodes.py", "mfpde/limit/sampled/sequences.py"
RANDOM = "tests/exact/test_sampled_nodes.py::test_{}"
RESOLUTION = "mfpde/limit/lagrangian/resolution.py"
MOVING_NODES, INITIAL_NODES = "mfpde/limit/lagrangian/moving_nodes.py", "mfpde/limit/lagrangian/initial_nodes.py"
STENCILS, SPLINES = "mfpde/limit/lagrangian/interpolation.py", "mfpde/limit/tables/splines.py"
SPLINE = "tests/unit/test_splines.py::test_{}"
FEW_PASSES, PASSES = "mfpde/limit/timestepping/predictor_corrector.py", "tests/exact/test_passes_of_nodes.py::test_{}"
STEPS_OF_NODES = "tests/unit/test_predictor_corrector.py::test_{}"
WITHOUT_OLDEST = STEPS_OF_NODES.format("a_step_predicts_passes_and_corrects_without_the_oldest[3]")
DOPRI = STEPS_OF_NODES.format("the_pair_that_moves_the_nodes_is_of_order_five_and_its_difference_too")
QUASI_NEWTON, FIXED_POINT = "mfpde/limit/timestepping/quasi_newton.py", "tests/unit/test_quasi_newton.py::test_{}"
CARRIED = "tests/exact/test_lagrangian_nodes.py::test_{}"
DECAYING = CARRIED.format("nodes_masses_and_densities_follow_their_equations[decay of a bump 2-D]")
TABLE = CARRIED.format("a_table_of_two_linear_coordinates_against_sums_over_nodes")
LAWFUL = CARRIED.format("energy_law_to_rounding")
CONSERVED = CARRIED.format("a_remap_conserves_and_is_positive_and_of_high_order")
DIVIDED = "tests/exact/test_defaults.py::test_strong_data_tears_nodes_of_which_enough_are_where_the_density_divides"
IN_TIME = CARRIED.format("affine_flows_need_no_remap_and_others_get_one_while_it_is_resolved")
SURROUNDINGS = "tests/unit/test_process_environment.py::test_{}"
COPIES = "tests/exact/test_positivity.py::test_copies_are_nonnegative_everywhere_and_keep_the_mass[quadrilateral-2]"

_STAGE = "    stream = stream + (model.step / model.layers) * added"
# The stream and its co-state stay right; only the derivative in the units is taken at the tokens after the stage.
_AT_THE_WRONG_STAGE = """
        h, stop = model.step / model.layers, jax.lax.stop_gradient
        mine = list(zip(stage, units[place - len(stage) : place], strict=True))
        after = stop(stream + h * added)
        late = sum(integrate(family, after, *pair) for family, pair in mine)
        stream = stream + h * (sum(integrate(f, stream, *stop(pair)) for f, pair in mine) + late - stop(late))"""
# What a flux through the boundary does to the cells there.
_LEAK = """        rate[self.space.boundary] -= 1e-3 * density[self.space.boundary]
        return rate, fastest"""
_SWAPPED = """for stage, place in [
        (s, sum(map(len, model.stages[:r]))) for r, s in enumerate(model.stages)
    ][::-1]:"""

FAULTS = (
    # The transport.
    Fault("flux-sign", GENERAL, "lift = -facets.weights", "lift = facets.weights", KERNEL.format("triangle")),
    Fault("upwinding-lost", KERNELS, "mean + 0.5 * a * (", "mean + 0.0 * a * (", KERNEL.format("triangle")),
    Fault("geometry-transposed", KERNELS, "half[a, m, column] * inverse[k, m, column]",
          "half[a, m, column] * inverse[m, k, column]", KERNEL.format("triangle")),
    Fault("frame-geometry-transposed", KERNELS, "entry += scaled[a, k, column] * frame",
          "entry += scaled[k, a, column] * frame", KERNEL.format("disk")),
    Fault("drift-lost-in-kernel", KERNELS, "entry = drift[i, column]", "entry = 0.0", KERNEL.format("triangle")),
    Fault("stretch-lost-in-kernel", KERNELS, "entry += stretch[i, k, column]", "entry += 0.0 * stretch[i, k, column]",
          KERNEL.format("triangle")),
    Fault("stretch-transposed-in-kernel", KERNELS, "entry += stretch[i, k, column]", "entry += stretch[k, i, column]",
          KERNEL.format("triangle")),
    Fault("facet-points-not-paired", GENERAL, "facets.permutation[facets.order]",
          "np.arange(points)", KERNEL.format("disk")),
    Fault("results-overwritten-too-soon", GENERAL, "np.arange(owned_chunks) % ring",
          "np.arange(owned_chunks) % max(1, ring - 1)",
          "tests/unit/test_transport.py::test_chunks_wait_for_their_neighbours"),
    Fault("boundary-leaks", TRANSPORT, "        return rate, fastest", _LEAK, KERNEL.format("interval")),
    Fault("ghosts-not-exchanged", TRANSPORT, "        self._ghosted.scatter_forward()\n        ghosted =",
          "        ghosted =", TWO_RANKS),
    Fault("box-flux-sign", BOXES, "there.row(q).store(-flux)", "there.row(q).store(flux)", KERNEL.format("interval")),
    Fault("box-upwinding-lost", BOXES, "back) + a * (value - other)", "back)", KERNEL.format("quadrilateral")),
    Fault("box-drift-lost", BOX, "motion.drift @ inverse.T", "0.0 * motion.drift", KERNEL.format("quadrilateral")),
    Fault("box-stretch-transposed", BOX, "stretch = inverse @ motion.stretch",
          "stretch = inverse @ np.swapaxes(motion.stretch, 1, 2)", KERNEL.format("quadrilateral")),
    Fault("box-results-overwritten-too-soon", BOX, "own % kept", "own % max(1, kept - 1)",
          "tests/unit/test_transport.py::test_boxes_two_ways[box]"),
    Fault("box-moments-transposed", BOX_MOMENTS, "middle[m] + turned[k, m]", "middle[m] + turned[m, k]",
          "tests/unit/test_transport.py::test_velocity_moments[quadrilateral]"),
    Fault("box-without-ghosts", MESH, "ghosts = dmesh.GhostMode.shared_facet", "ghosts = dmesh.GhostMode.none",
          TWO_RANKS),
    Fault("seams-taken", "mfpde/limit/fem/mesh_validity.py", "count[len(c) :] != 0", "count[len(c) :] < 0",
          "tests/unit/test_mesh_validity.py::test_kinds_of_faults"),
    Fault("cut-law-taken", "mfpde/limit/fem/law_coverage.py", "_LEAST, _MOST = 0.9, 1.1", "_LEAST, _MOST = 0.0, 1.1",
          "tests/unit/test_law_coverage.py::test_a_mesh_beside_the_law"),
    Fault("negative-square-taken", REPORTS, "if square < 0.0:", "if square < -1e9:",
          "tests/unit/test_lost_densities.py::test_what_no_density_can_be"),
    Fault("point-followed", COLLAPSE, "if not noise[worst] > 1.0:", "if not noise[worst] > 1e30:",
          "tests/unit/test_lost_densities.py::test_a_frame_cannot_follow_a_point"),
    Fault("rounding-without-its-slope", COLLAPSE, "* risk * per_unit *", "* risk *",
          "tests/unit/test_lost_densities.py::test_a_frame_cannot_follow_a_point"),
    Fault("file-without-ghosts", MESH, "create_cell_partitioner(dmesh.GhostMode.shared_facet",
          "create_cell_partitioner(dmesh.GhostMode.none", TWO_RANKS),
    # The Transformer and its gradient.
    Fault("lost-layers", MODEL, "(model.step / model.layers) * added", "model.step * added", POTENTIAL),
    Fault("lost-eta", MODEL, "(model.step / model.layers) * added", "(1.0 / model.layers) * added", POTENTIAL),
    Fault("costate-at-the-wrong-stage", MODEL, _STAGE, _AT_THE_WRONG_STAGE, POTENTIAL),
    Fault("one-stage-as-two", MODEL, "added = adding(stage, stream, units[place : place + len(stage)])",
          "stream = stream + (model.step / model.layers) * _added(stage[:1], stream, units[place : place + 1])\n"
          "        added = _added(stage[1:], stream, units[place + 1 : place + len(stage)])", POTENTIAL),
    Fault("depth-cell-of-lower-order", MODEL, "slope(stream + 0.5 * h * k2)", "slope(stream + 0.5 * h * k1)",
          "tests/exact/test_continuous_depth.py::test_a_depth_cell_is_crossed_to_fourth_order"),
    Fault("depth-cell-without-layers", MODEL, "h = 1.0 / model.layers", "h = 1.0",
          "tests/exact/test_continuous_depth.py::test_a_depth_cell_is_crossed_to_fourth_order"),
    Fault("programs-compared-by-shape-alone", PROGRAM, "forms = tuple(_forms(run, held, arguments))",
          "forms = tuple(map(jnp.shape, held)), str(traced)", SHARED),
    Fault("rules-that-hold-arrays-shared", PROGRAM, "        if traced.consts:\n            raise _OpaqueError\n", "",
          SHARED),
    Fault("probes-at-another-place", MODEL, "return slice(place, place + 1)", "return slice(0, 1)", NODES),
    Fault("stages-swapped", MODEL, "for stage in model.stages:", _SWAPPED, POTENTIAL),
    Fault("lost-mean-over-samples", SWEEP, "np.where(inside, 1.0 / samples", "np.where(inside, 1.0", POTENTIAL),
    Fault("gradient-not-times-layers", SWEEP, "self.model.layers * part for part", "part for part",
          POTENTIAL),
    Fault("weights-not-summed-over-ranks", SWEEP,
          "unpack(reductions.sum_over_ranks(self.comm, pack(parts)), parts)", "unpack(pack(parts), parts)", TWO_RANKS),
    Fault("sums-in-the-order-of-the-ranks", "mfpde/parallel/exact_sum.py", "levels = np.empty((LEVELS, *terms.shape))",
          "return np.stack([terms, 0 * terms, 0 * terms])", "tests/unit/test_exact_sum.py"),
    Fault("moments-in-the-order-of-the-cells", "mfpde/parallel/exact_sum.py",
          "high = (terms[b] + _FIRST) - _FIRST", "high = terms[b]", "tests/unit/test_exact_sum.py"),
    Fault("test-set-is-training-set", SOLVER, "model, task.test_tokens, task.test_targets)",
          "model, task.tokens, task.targets)", COLUMNS.format("risks_and_accuracies")),
    Fault("fast-softmax-over-the-wrong-axis", LIBRARY, "grown.sum(axis=1)", "grown.sum(axis=0)",
          "tests/unit/test_shipped_families.py::test_update_integral_and_their_check[attention]"),
    Fault("softmax-over-the-wrong-axis", LIBRARY,
          "jax.nn.softmax(theta[0] * (tokens @ score @ tokens.T), axis=1)",
          "jax.nn.softmax(theta[0] * (tokens @ score @ tokens.T), axis=0)",
          "tests/unit/test_shipped_families.py::test_update_integral_and_their_check[attention]"),
    # The penalty.
    Fault("weight-decay-sign", UNITS, "value = 0.5 * weight_decay", "value = -0.5 * weight_decay", POTENTIAL),
    Fault("potential-without-half", UNITS, "value = 0.5 * weight_decay", "value = weight_decay", POTENTIAL),
    Fault("penalty-without-half", FLOW, "penalty = self.weight_decay / (2 * self.blocks)",
          "penalty = self.weight_decay / self.blocks", COLUMNS.format("entropy_penalty_and_energy")),
    # Frames.
    Fault("theta-transposed", FRAMES, '"bij,...j->...ib"', '"bji,...j->...ib"', INDICES),
    Fault("inverse-transposed", FRAMES, "return np.linalg.inv(self.matrix)",
          "return np.linalg.inv(np.swapaxes(self.matrix, 1, 2))", INDICES),
    Fault("metric-transposed", FRAMES, "inverse @ np.swapaxes(inverse, 1, 2))",
          "np.swapaxes(inverse, 1, 2) @ inverse)", INDICES),
    Fault("drift-lost", FRAMES, 'np.einsum("bij,bj->bi", frame.matrix, self.drift)', "np.zeros_like(self.drift)",
          MOVING),
    Fault("stretch-lost", FRAMES, "frame.matrix @ self.stretch", "0.0 * self.stretch", MOVING),
    Fault("stretch-on-the-wrong-side", FRAMES, "frame.matrix @ self.stretch", "self.stretch @ frame.matrix", MOVING),
    Fault("drift-without-the-mean", FRAMES, 'velocity - np.einsum("bij,bj->bi", stretch, mean)', "velocity",
          FOLLOWING),
    Fault("followed-covariance-not-centred", FRAMES, "- mean[:, :, None] * mean[:, None, :])", ")", FOLLOWING),
    Fault("linear-coordinates-first", FRAMES,
          "[a for a in range(matrices.shape[1]) if a not in linear] + list(linear)",
          "list(linear) + [a for a in range(matrices.shape[1]) if a not in linear]", FOLLOWING),
    # Initial laws.
    Fault("cells-not-divided-at-kinks", LAW_QUADRATURE, "return exactness, cut & inside",
          "return exactness, cut & ~cut", START.format("integrals_over_cells_that_kinks_cut[uniform-tensor]")),
    Fault("fixed-frames-not-corrected", PROJECTION, "FemPart(_corrected(space, coefficients, wanted), frame)",
          "FemPart(coefficients, frame)", START.format("mass_mean_and_covariance_at_default_settings[student-fixed]")),
    Fault("tails-beyond-a-line-lost", NODE_WEIGHTS, "masses[end] += tail", "masses[end] += 0.0 * tail",
          START.format("the_last_points_of_a_line_hold_the_tails_beyond_it[5.0]")),
    Fault("tails-where-the-line-ends", INITIAL_NODES, "lines, along = [line for line, _ in tailed], [",
          "along = [", START.format("the_risk_at_the_start_against_independent_quadrature[student]")),
    Fault("initial-nodes-not-corrected", INITIAL_NODES,
          "with_moments(raw, made, (mean, covariance), grid.family.linear)", "raw",
          START.format("mass_mean_and_covariance_at_default_settings[normal-lagrangian]")),
    Fault("kinks-not-seen-on-lines", NODE_WEIGHTS, "density, s, inside, degree)", "density, s, inside[:0], degree)",
          START.format("masses_on_a_line_are_positive_and_of_order_six[laplace-24]")),
    Fault("uniform-ends-without-gregory", NODE_WEIGHTS, "_DEGREES = (5, 3, 1)", "_DEGREES = (1,)",
          START.format("masses_on_a_line_are_positive_and_of_order_six[uniform-24]")),
    Fault("mixture-without-distance-of-means", "mfpde/problem/mixtures.py",
          "inside + apart[:, :, None] * apart[:, None, :]", "inside",
          LAWS.format("draws_have_the_mean_and_covariance[mixture]")),
    Fault("layers-of-a-run-rounded-down", "mfpde/problem/from_run.py", "int((layer + 0.5) *", "int(layer *",
          "tests/exact/test_warm_start.py::test_moments_and_densities_are_those_of_the_run[lagrangian]"),
    Fault("student-of-another-variance", "mfpde/problem/product_laws.py", "np.log1p(s**2 / (df - 2.0))",
          "np.log1p(s**2 / df)", LAWS.format("densities_of_the_field")),
    # Time steps.
    Fault("wrong-coefficient", PAIR, "stage *= 1.0 / 3.0\n    stage += (2.0 / 3.0) * start",
          "stage *= 0.5\n    stage += 0.5 * start", ORDER),
    Fault("frame-held-in-the-stages", PAIR, "slope(vector.state(tau + ahead, stage))",
          "slope(vector.state(tau + ahead, np.append(stage[:2], start[2:])))", ORDER),
    Fault("estimate-with-wrong-weights", PAIR, "k *= 3.0", "k *= 2.0", ESTIMATE),
    Fault("estimate-twice-as-large", PAIR, "k *= step / 12.0", "k *= step / 6.0", ESTIMATE),
    Fault("forecast-misses-half", FORECAST, "0.5 * _SHARES @ grown", "0.25 * _SHARES @ grown", CUBIC),
    Fault("correction-of-the-wrong-sign", MULTIRATE, "correction -= packed(self._extrapolated(end, outcome).parts)",
          "correction = packed(self._extrapolated(end, outcome).parts) - correction", CORRECTED),
    Fault("forecast-error-not-asked", MULTIRATE, "packed(difference.parts) + added)", "packed(difference.parts))",
          CORRECTED),
    Fault("correction-lost", MULTIRATE, "added += packed(end.parts)", "added = packed(end.parts)", CORRECTED),
    Fault("last-sweep-not-saved", MULTIRATE, "[self._known[0], self._known[1].risk]", "None",
          "tests/unit/test_multirate.py::test_what_is_saved_is_all_that_determines_the_steps_to_come"),
    Fault("direct-steps-never-tried", DIRECT, "self.cost * proposed >= stable", "self.cost * proposed >= 0.0", STIFF),
    Fault("rejected-step-accepted", STEP, "if not accepted:\n            return trial.proposed, False",
          "if not accepted:\n            return trial.proposed, True", RETRIED),
    Fault("tolerance-ignored", STEP, "or trial.error <= tolerance", "or trial.error <= 10.0 * tolerance", RETRIED),
    Fault("cfl-bound-too-large", PAIR, "2.0 * _SAFETY", "2.2 * _SAFETY", STABLE),
    Fault("speed-of-one-side", KERNELS, "speed[column] += interior", "speed[column] += (f % 2) * interior",
          "tests/unit/test_stepper.py::test_the_speed_is_that_of_a_uniform_flow[2-True]"),
    # Reports.
    Fault("initial-law-of-the-first-layer", PROJECTION, "laws = [family.law(layer) for",
          "laws = [family.law(0) for", COLUMNS.format("the_start")),
    Fault("entropy-without-determinant", DIAGNOSTICS, "np.maximum(values / frame.determinant,", "np.maximum(values,",
          COLUMNS.format("entropy_penalty_and_energy")),
    Fault("covariance-not-centred", DIAGNOSTICS, "- mean[:, :, None] * mean[:, None, :]", "",
          COLUMNS.format("moments")),
    Fault("dissipation-without-metric", DIAGNOSTICS, '"cqkb,bkl,cqlb->cqb", gradient, frame.metric, gradient',
          '"cqkb,cqkb->cqb", gradient, gradient', COLUMNS.format("dissipation_in_any_frame")),
    Fault("file-without-determinant", GATHER, "table, copy[cells]) / chart.determinant",
          "table, copy[cells])", COLUMNS.format("snapshots")),
    Fault("file-velocity-transposed", GATHER, '"bki,cnkb->cnib"', '"bik,cnkb->cnib"', COLUMNS.format("snapshots")),
    # Nonnegative copies.
    Fault("copy-by-values-at-nodes", LIMITER, "rows.append(to_bernstein @ element", "rows.append(element", COPIES),
    Fault("bound-of-one-piece-too-few", LIMITER, "for place in product(range(2**halvings), repeat=dim):",
          "for place in list(product(range(2**halvings), repeat=dim))[1:]:", COPIES),
    Fault("negative-mass-given-away", LIMITER, "    copy *= before / after\n", "", COPIES),
    Fault("files-hold-what-was-solved", ELEMENTS, 'density.positivity != "off"', 'density.positivity == "scheme"',
          "tests/exact/test_positivity.py::test_files_hold_copies_and_tables_the_evolved_density[]"),
    # One pass a step.
    Fault("oldest-potential-not-dropped", FEW_PASSES, "else past.last(self._plan.order - 1)", "else past",
          WITHOUT_OLDEST),
    Fault("correction-in-the-prediction", FEW_PASSES, "corrector.extended(end, passed))\n        self._found",
          "past)\n        self._found", WITHOUT_OLDEST),
    Fault("nodes-by-a-wrong-coefficient", PAIR, "49 / 176", "49 / 175", DOPRI),
    Fault("difference-of-nodes-by-a-wrong-weight", PAIR, "22 / 525", "22 / 524", DOPRI),
    Fault("stage-of-nodes-at-a-wrong-time", PAIR, "4 / 5, 8 / 9, 1.0)", "4 / 5, 7 / 9, 1.0)", DOPRI),
    Fault("quasi-newton-of-the-wrong-sign", QUASI_NEWTON, "values - sum(", "values + sum(",
          FIXED_POINT.format("a_linear_problem_of_low_rank_is_solved_in_one_iteration_more_than_its_rank[2]")),
    Fault("pairs-of-another-step-as-they-are", QUASI_NEWTON, "np.stack([step / own * _flat(", "np.stack([_flat(",
          FIXED_POINT.format("pairs_of_another_step_are_scaled_by_the_time_that_the_nodes_move[0.5]")),
    Fault("stale-pairs-have-a-say", QUASI_NEWTON, "if size > _INDEPENDENT * float(np.linalg.norm(row)):",
          "if size > 0.0 * float(np.linalg.norm(row)):",
          FIXED_POINT.format("the_newest_pairs_win_over_stale_ones")),
    Fault("past-without-what-a-pass-added", FEW_PASSES, "tuple(a + b for a, b in zip(gradient, added",
          "tuple(a + 0.0 * b for a, b in zip(gradient, added",
          PASSES.format("potentials_of_the_past_go_to_another_table_with_what_a_pass_adds")),
    Fault("torn-cells-in-one-piece", CELL_MASSES, "_TORN = 1.0 / 16.0", "_TORN = 0.0",
          TORN_CELLS.format("cells_between_torn_nodes_hold_no_more_than_their_mass")),
    Fault("torn-cells-spread-over-a-half", CELL_MASSES, "_THIN, 0.5)", "0.5, 0.5)",
          TORN_CELLS.format("torn_cells_have_their_mass_at_their_ends[2]")),
    Fault("ends-of-torn-cells-swapped", CELL_MASSES, "cells.density[:, :, low], 0.5 * cells.held[:, :, low]",
          "cells.density[:, :, low], 0.5 * cells.held[:, :, high]",
          TORN_CELLS.format("torn_cells_have_their_mass_at_their_ends[1]")),
    Fault("nodes-leave-their-table", OF_NODES, "if (low >= part.low).all() and (high <= top).all():",
          "if np.isfinite(high + top).all():", PASSES.format("tables_are_enlarged_before_nodes_leave_them")),
    Fault("failed-pass-keeps-the-wide-table", FEW_PASSES,
          "rate = self._transfer(begin, fitted)\n            self._vector = vector_of(fitted.parts)",
          "self._vector = vector_of(fitted.parts)\n            rate = self._transfer(begin, fitted)",
          PASSES.format("a_pass_that_fails_in_an_enlarged_table_leaves_the_old_one")),
    Fault("implicit-steps-never-tried", "mfpde/limit/timestepping/order_control.py",
          "if series >= plan.patience else plan", "if series >= 1e9 else plan",
          PASSES.format("stiff_feedback_takes_hundreds_of_steps_where_explicit_ones_took_thousands")),
    Fault("shifts-not-in-deviations", NODES_FOLLOW, "/ np.maximum(variance, least)",
          "/ np.sqrt(np.maximum(variance, least))",
          PASSES.format("errors_of_nodes_are_in_standard_deviations")),
    Fault("failed-trial-not-halved", CONTROL, "return 0.5 * step", "return step",
          "tests/unit/test_stepper.py::test_a_trial_without_numbers_is_halved_and_the_run_goes_on"),
    Fault("differences-not-saved", FEW_PASSES, "asdict(self._differences)", "asdict(Differences())",
          STEPS_OF_NODES.format("what_is_saved_is_all_that_determines_the_steps_to_come")),

    # The end at stationarity.
    Fault("stop-without-layers", ELEMENTS, "share_of(terms / self.laws.layers, axes", "share_of(terms, axes",
          SETTLED.format("comoving-0.05")),
    Fault("stop-a-step-late", STEP, "dissipation <= self._stationary:", "dissipation <= 0.9 * self._stationary:",
          SETTLED.format("comoving-0.05")),
    Fault("stop-by-signed-density", ELEMENTS, "absolute=True)", "absolute=False)", COUNTED),
    Fault("stop-without-diffusion", ELEMENTS, "potential, self.temperature, absolute=True)",
          "potential, absolute=True)",
          "tests/exact/test_stationarity.py::test_with_temperature_it_ends_by_the_dissipation_of_diffusion_too"),
    Fault("stop-far-too-early", STEP, "dissipation <= self._stationary:", "dissipation <= 300.0 * self._stationary:",
          CONVEX.format("comoving-0.1-1e-06-0.0001")),
    Fault("gap-below-the-excess", GAP, "return self.mean - self.least", "return 0.8 * (self.mean - self.least)",
          CONVEX.format("comoving-0.1-1e-06-0.0001")),
    Fault("share-of-one-rank-stops", CONTROL, "max(one[0], other[0]), one[1] + other[1]",
          "max(one[0], other[0]), one[1]", TWO_RANKS),
    # Temperature.
    Fault("diffusion-sign", DIFFUSION, "return -self.temperature *", "return self.temperature *", IMPLICIT),
    Fault("mass-without-its-inverse", DIFFUSION, "self._penalty.space.invert_mass(applied)", "applied", IMPLICIT),
    Fault("penalty-dropped", PENALTY_KERNELS, "(penalty[here, column] * jump - mean)", "(0.0 * jump - mean)",
          ASSEMBLED.format("interval")),
    Fault("penalty-too-small", PENALTY, "mine = together * alone", "mine = 0.2 * together * alone",
          "tests/unit/test_diffusion.py::test_symmetric_and_coercive[quadrilateral-2]"),
    Fault("not-symmetric", PENALTY_KERNELS, "= -0.5 * weight * jump", "= 0.5 * weight * jump",
          ASSEMBLED.format("interval")),
    Fault("diffusion-geometry-transposed", PENALTY, "cg,cgam,bmn,cgkn->gakcb", "cg,cgma,bmn,cgnk->gakcb",
          ASSEMBLED.format("triangle")),
    Fault("diffusion-metric-inverted", HOT_FLOW, "operator.rate(part.density, part.frame.metric)",
          "operator.rate(part.density, np.linalg.inv(part.frame.metric))",
          HOT.format("ornstein_uhlenbeck_moments[1-fixed]")),
    Fault("frame-follows-half-the-diffusion", FRAMES, "+ temperature * frame.metric",
          "+ 0.5 * temperature * frame.metric", HOT.format("the_frame_carries_a_gaussian")),
    Fault("implicit-step-too-short", IMEX, "GAMMA * step, stage", "0.9 * GAMMA * step, stage",
          HOT.format("order_in_time[fixed]")),
    Fault("entropy-rate-without-determinant", ENTROPY, " - widening * values", "",
          HOT.format("order_of_the_remainder[2-comoving]")),
    Fault("dissipation-of-the-wrong-flux", ENTROPY, "+ temperature * gradient", "- temperature * gradient",
          HOT.format("order_of_the_remainder[2-fixed]")),
    Fault("entropy-sign-in-the-energy", REPORTS, "potential.energy + heat",
          "potential.energy - heat", HOT.format("the_frame_carries_a_gaussian")),
    Fault("gap-without-entropy", GAP, "flow.temperature * entropy[place]", "0.0 * entropy[place]",
          HOT.format("gap_of_gaussians_is_their_relative_entropy[1]")),
    Fault("partition-half-lost", PARTITION, "0.5 * count * float(np.log", "count * float(np.log",
          HOT.format("gap_of_a_linear_head")),
    # The positive scheme.
    Fault("mean-not-kept", POSITIVITY, "values, along, along)", "values, 0.0 * along, along)", SCHEME),
    Fault("constraint-never-leaves", "mfpde/limit/positivity/projection_kernels.py", "if share[k] > 0.0 and",
          "if share[k] > np.inf and", NEAREST),
    Fault("low-degrees-first-to-go", POSITIVITY, "fall ** _degrees(space)", "fall ** -_degrees(space)",
          "tests/exact/test_positivity.py::test_low_moments_are_kept"),
    Fault("points-of-another-quadrature", POSITIVITY, "space.degree + space.potential_degree + (0",
          "space.degree + (0", SEEN),
    Fault("frame-turned-back", FRAMES, "old @ np.linalg.inv(new)", "new @ np.linalg.inv(old)", TAKEN_UP),
    Fault("coordinates-in-any-order-in-frame", FRAMES, "roots(law[1][b : b + 1], axes)",
          "roots(law[1][b : b + 1], ())", TAKEN_UP),
    Fault("never-limited", ELEMENTS, "if self.limiter is None:", "if True:",
          "tests/exact/test_positivity.py::test_a_run_of_the_scheme"),
    # The certificate.
    Fault("minimum-over-the-mesh", GAP, "isinstance(each, Search) and each.m}",
          "isinstance(each, Search) and each.m > 3}", NEURON_GAP),
    Fault("minimum-not-polished", MINIMUM, "_STEPS = 8", "_STEPS = 0", NEURON_GAP),
    Fault("boxes-never-divided", MINIMUM, "np.flatnonzero(~self.unbounded)", "()", FOUND),
    Fault("tails-as-flat-as-their-curvature", COVER, "_TAIL = 0.75", "_TAIL = np.inf", FOUND),
    Fault("nothing-seen-is-nothing-there", COVER, "np.where(_uninformative(boxes) & wide, -np.inf",
          "np.where(False, -np.inf", FOUND),
    Fault("gap-half-lost", PROBES, "/ (2.0 * decay)", "/ decay", HEAD_GAP),
    Fault("gap-without-penalty", GAP, "0.5 * decay * squares", "0.0 * decay * squares", HEAD_GAP),
    # The finite Transformer.
    Fault("noise-of-half-the-heat", FINITE_TRAIN, "jnp.sqrt(2.0 * temperature", "jnp.sqrt(temperature", NOISE),
    Fault("noise-of-one-step-for-all", FINITE_TRAIN, "jax.random.fold_in(key, n)", "key", NOISE),
    Fault("depth-lost-from-finite-flow", "mfpde/finite/flow.py", "_per_weight(-self.model.layers * s, w)",
          "_per_weight(-s, w)", "tests/unit/test_finite_transformer.py::test_velocity_is_the_slope_of_the_energy"),
    Fault("covariance-about-zero", "mfpde/finite/training.py", "centred = points - mean[:, None]", "centred = points",
          PARTICLES.format("a_record_is_what_the_flow_says")),
    Fault("interval-without-jackknife-factor", "mfpde/comparison/infinite_width.py", "(count - 1) / count * np.sum",
          "1.0 / count * np.sum", EXTRAPOLATED.format("the_interval_of_the_extrapolation_covers_as_often_as_it_says")),
    Fault("depth-extrapolated-by-order-one", "mfpde/comparison/depth_error.py", "(fine / coarse) ** 2",
          "(fine / coarse) ** 1", EXTRAPOLATED.format("depth_is_a_table_with_its_slope")),
    Fault("errors-not-squared", "mfpde/comparison/slopes.py", "squares = np.asarray(errors) ** 2",
          "squares = np.abs(np.asarray(errors))", EXTRAPOLATED.format("exponents_and_their_intervals")),
    Fault("steps-length-forgotten", "mfpde/comparison/infinite_width.py", "if len(set(steps)) > 1 else []",
          "if False else []", EXTRAPOLATED.format("the_length_of_steps_is_carried_on_to_zero")),
    Fault("slope-that-only-reaches", "mfpde/comparison/slopes.py", "self.low > wanted + tolerance else None",
          "self.low > wanted + tolerance else True",
          VERDICT.format("an_exponent_passes_where_its_whole_interval_does")),
    Fault("verdict-without-power", "mfpde/comparison/verdict.py", "if max(least.values()) > change]",
          "if False]", VERDICT.format("the_verdict_asks_what_would_have_been_seen")),
    Fault("power-of-one-check-for-all-depths", "mfpde/comparison/verdict.py",
          "depths.setdefault(check.layers, [])", "depths.setdefault(0, [])",
          VERDICT.format("the_verdict_asks_what_would_have_been_seen")),
    Fault("effect-of-twice-the-change", "mfpde/comparison/effects.py", "1.0 + change", "1.0 + 2.0 * change",
          COMPARE.format("effects_on_finite_transformers_are_those_on_the_pde")),
    Fault("means-of-layers-not-compared", "mfpde/comparison/grids.py",
          "for family in evidence.models[layers].families:", "for family in ():",
          COMPARE.format("layers_that_change_places_are_seen_in_their_means[order1-differs]")),
    Fault("run-not-held-to-its-refinement", "mfpde/comparison/grids.py",
          "passed = bool(abs(value - expected) <= allowed)", "passed = True",
          COMPARE.format("a_run_that_its_own_refinement_does_not_bear_out")),
    Fault("stopped-depth-begun-anew", "mfpde/runs/comparison_run.py", "overwrite=not begun, resume=begun",
          "overwrite=True, resume=False",
          "tests/restart/test_stopped_comparison.py::test_a_depth_that_is_being_solved_goes_on_bit_for_bit"),
    Fault("hotter-limit", "mfpde/limit/diffusion/diffusion.py", "self.temperature = temperature",
          "self.temperature = 1.1 * temperature", COMPARE.format("noisy_units_against_the_hot_pde")),
    Fault("short-records-are-done", "mfpde/finite/record_files.py", "all(has_time(self.tau, t) for t in times)",
          "len(self.tau) > 0", PARTICLES.format("a_record_is_what_the_flow_says")),
    # Stopping and going on.
    Fault("resumed-step-not-the-wish", STEP,
          'self._trial.proposed = real("proposed", float(saved["proposed"]), above=0.0)', "pass",
          RESUME + "test_a_signal_saves_and_resume_goes_on_bit_for_bit"),
    Fault("resumed-steps-not-counted", STEP, 'whole("steps", saved["steps"], 0, MOST_STEPS)', "0",
          RESUME + "test_a_signal_saves_and_resume_goes_on_bit_for_bit"),
    Fault("trial-steps-lost-at-a-checkpoint", STEP, "asdict(step) for step in self._history", "",
          RESUME + "test_a_signal_saves_and_resume_goes_on_bit_for_bit"),
    Fault("resumed-frames-initial", RESTART, "part.with_arrays(arrays)",
          "part.with_arrays(arrays | part.common())",
          RESUME + "test_a_signal_saves_and_resume_goes_on_bit_for_bit"),
    Fault("later-rows-not-cut", TABLES, "os.truncate(self.path, self._size)", "pass",
          RESUME + "test_damage_to_the_newest_falls_back_to_the_one_before"),
    Fault("checkpoint-not-verified", CHECKPOINT, "if bad := archive.testzip():", "if bad := None:",
          RESUME + "test_damage_to_the_newest_falls_back_to_the_one_before"),
    Fault("one-generation", GENERATIONS, "if old not in (path, kept):", "if old != path:",
          RESUME + "test_damage_to_the_newest_falls_back_to_the_one_before"),
    Fault("finer-solver-begins-anew", SOLVER, 'self.companion.load_state_dict(saved["companion"])', "pass",
          RESUME + "test_the_finer_solver_goes_on_too"),
    Fault("estimate-without-its-factor", COMPANION, "self.resolved if resolved else", "1.0 if resolved else",
          RISK_ERROR + "test_the_estimate_is_of_the_run_and_not_of_the_coarser_solve"),
    Fault("first-step-of-the-coarser-solve-as-long", SPECIFICATION, "first=_LONGER)", "first=1.0)",
          RISK_ERROR + "test_the_first_step_of_the_coarser_solve_is_twice_as_long"),
    Fault("steps-of-the-coarser-solve-as-exact", SPECIFICATION, "tolerance=_FACTOR)",
          "tolerance=1.0)", RISK_ERROR + "test_the_coarser_problem_is_coarser_in_every_way"),
    Fault("table-error-of-the-points-kept", TABLE_SIZE, "wrong = odd - np", "wrong = odd + np",
          OF_TABLES + "test_the_error_of_half_the_points_falls_with_order_eight"),
    Fault("table-error-beside-its-own-family-alone", TABLE_SIZE, "np.mean([each.varied for each in errors])",
          "min(each.varied for each in errors)", OF_TABLES + "test_a_weak_family_may_have_a_larger_error"),
    Fault("tables-never-refined", TABLE_SIZE, "return points if coarse or", "return points if",
          OF_TABLES + "test_tables_are_as_fine_as_a_head_that_oscillates_needs_and_no_finer"),
    Fault("rejected-trials-before-a-remap", STEP, "self._vec.array[:] = cell_values(new.parts)", "pass",
          OF_TABLES + "test_a_trial_that_is_rejected_goes_back_to_the_nodes_that_replaced_others"),
    Fault("clusters-as-if-resolved", SOLVER, "resolved=not growth > _UNRESOLVED", "resolved=True",
          RISK_ERROR + "test_where_few_nodes_are_torn_errors_are_taken_to_fall_with_second_order"),
    Fault("failed-estimate-kept-silent", SOLVER, "self.cautions += self.companion.news(state.tau)", "pass",
          RISK_ERROR + "test_a_coarser_solve_that_fails_leaves_the_run_alone_and_says_so_once"),
    Fault("rounding-not-in-the-estimate", SOLVER, "error += self._rounding_error(state, risk)", "pass",
          SINGLE.format("the_risk_is_that_of_double_precision_and_the_estimate_has_the_difference")),
    Fault("single-precision-without-the-mean", SWEEP, "most * array.astype", "array.astype",
          SINGLE.format("sums_over_samples_are_in_double_precision")),
    Fault("run-without-its-precision", "mfpde/config/identity.py", '    "training.precision": "discretisation",\n',
          '    "training.precision": "schedule",\n',
          SINGLE.format("what_determines_a_run_has_its_precision_and_runs_without_one_were_double")),
    Fault("samples-left-on-the-cpu", SWEEP, "weights.reshape(count, tile), device)", "weights.reshape(count, tile))",
          DEVICE.format("a_solve_has_all_its_passes_on_the_device_and_the_risk_of_the_cpu")),
    Fault("particles-left-on-the-cpu", "mfpde/runs/finite_runs.py", "with jax.default_device(device):",
          "with jax.default_device(None):", DEVICE.format("particles_are_all_on_the_device")),
    Fault("missing-gpu-replaced", "mfpde/device.py", 'if wanted == "gpu":', 'if wanted == "GPU":',
          DEVICE.format("a_device_that_is_not_there_is_refused_in_one_line")),
    Fault("large-estimate-kept-silent", THRESHOLD_WARNINGS, "level_above(relative, _RISK_ERROR)", "0",
          "tests/unit/test_threshold_warnings.py::test_a_risk_with_a_large_error_is_warned_of"),
    Fault("states-within-a-step-by-the-last-potential", FEW_PASSES,
          "past = self.state, self._past.last(self._orders.most)", "past = self.state, self._past.last(1)",
          "tests/exact/test_reference_risks.py::test_reports_change_no_step_of_moving_nodes"),
    Fault("rows-of-cells-in-file-order", CHECKPOINT, "rows[order[place[mine]]] = part[mine]",
          "rows[place[mine]] = part[mine]",
          RESUME + "test_cells_in_another_order_are_found"),
    Fault("rounding-makes-another-report", CONTROL, "return abs(one - other) <= _SAME * max(abs(one), abs(other))",
          "return one == other",
          RESUME + "test_a_multiple_within_rounding_of_the_last_report_is_that_report"),
    Fault("last-step-short-by-a-digit", CONTROL, "float(np.nextafter(step, np.inf))", "step",
          "tests/unit/test_stepper.py::test_a_last_step_is_not_short_of_its_target_by_rounding"),
    Fault("steps-of-a-failure-lost", RUN, "writer.last_steps(solver.stepper.history)", "pass",
          RECORDS.format("steps_after_the_last_report_stand_in_the_table_when_the_run_fails")),
    Fault("reports-timed-twice", SOLVER, " - (self.flow.clock.counted + self._estimate - elsewhere)", "",
          RECORDS.format("parts_of_the_time_do_not_exceed_the_whole")),
    Fault("dissipation-with-a-sign", DIAGNOSTICS, "dissipation=dissipated,", "dissipation=descent,",
          RECORDS.format("a_dissipation_is_a_sum_of_squares")),
    Fault("interrupt-is-petscs", "mfpde/parallel/petsc_callbacks.py", "raise cause from None", "raise",
          "tests/restart/test_interrupts.py::test_what_is_raised_under_petsc_comes_out_as_it_is"),
    Fault("lock-for-many", "mfpde/output/lock.py", "fcntl.LOCK_EX", "fcntl.LOCK_SH",
          "tests/unit/test_directory_lock.py::test_within_one_process_and_over_again"),
    Fault("memory-of-one-rank", "mfpde/limit/memory_estimate.py", "ranks * self.rank +", "self.rank +",
          "tests/unit/test_memory_estimate.py::test_estimate_follows_the_sizes"),
    Fault("preconditioner-not-remembered", "mfpde/limit/timestepping/imex.py",
          '        self.flow.load_state_dict(saved["diffusion"])\n', "",
          RESUME + "test_a_hot_run_goes_on_bit_for_bit"),
    Fault("lagrange-cells-of-every-degree", LATTICE, "types[min(degree, 3) - 1]", "types[-1]", CUT),
    Fault("cell-arrays-at-lagrange-cells", LATTICE, "return degree <= 2", "return degree <= 9", CUT),
    Fault("collection-forgets-on-a-full-disk", "mfpde/output/fields/pvd.py",
          '                self._close_with("")\n', "                pass\n",
          "tests/unit/test_collection.py::test_an_entry_that_does_not_fit_leaves_the_others"),
    Fault("offsets-of-arrays-from-the-end-of-each", "mfpde/output/fields/vtk_xml.py",
          "            offsets.append(file.tell() - start)\n            file.write(array.content())\n",
          "            file.write(array.content())\n            offsets.append(file.tell() - start)\n",
          "tests/unit/test_output_density.py::test_what_is_read_is_what_was_written"),
    Fault("checkpoint-ahead-of-the-files", "mfpde/output/writer.py",
          "        self.wait()\n        with failing_clearly(self.directory):\n            for path in sorted",
          "        with failing_clearly(self.directory):\n            for path in sorted",
          "tests/unit/test_output_run.py::test_a_report_is_written_while_the_run_goes_on"),
    Fault("pieces-in-the-order-of-the-ranks", "mfpde/output/fields/snapshot.py",
          ".select(np.argsort(numbers), None)",
          ".select(np.arange(len(numbers)), None)",
          "tests/unit/test_density_pieces.py::test_pieces_are_read_as_the_whole"),
    Fault("marginal-over-the-wrong-pixels", "mfpde/figures/raster.py",
          "self.pixel[list(over)]", "self.pixel[list(kept)]",
          "tests/unit/test_figures.py::test_marginals_of_an_affine_density_are_exact"),
    Fault("ellipse-without-root", "mfpde/figures/blocks.py",
          "np.sqrt(np.maximum(values, 0.0))", "np.maximum(values, 0.0)",
          "tests/unit/test_figures.py::test_an_ellipse_is_at_its_distance_from_the_mean"),
    Fault("edge-minimum-unmarked", "mfpde/figures/minimisers.py", "kept.insert(0, (*edge, False))",
          "kept.insert(0, (*edge, True))",
          "tests/unit/test_figures.py::test_a_potential_that_falls_outwards_has_its_least_value_on_the_edge"),
    # Class attention and the Vision Transformer.
    Fault("class-head-for-all-tokens", "mfpde/problem/models/low_dimensional.py",
          "return jnp.zeros_like(tokens).at[-1].set(share @ tokens @ out)",
          "return jnp.zeros_like(tokens) + share @ tokens @ out",
          VISION.format("through_a_class_head_only_the_last_token_looks")),
    Fault("heads-read-what-heads-write", "mfpde/problem/models/low_dimensional.py", "3.0 * free * rng", "3.0 * rng",
          "tests/exact/test_figure1.py::test_layers_of_heads_act_side_by_side"),
    Fault("scores-not-over-root-of-k", VIT, "(x @ keys).T / math.sqrt(key)", "(x @ keys).T / key",
          VISION.format("units_side_by_side_are_multi_head_attention_and_an_mlp")),
    Fault("mlp-without-its-normalisation", VIT, "normalised(tokens) @ inward", "tokens @ inward",
          VISION.format("units_side_by_side_are_multi_head_attention_and_an_mlp")),
    Fault("keys-for-queries", VIT, "(x @ query) @ (x @ keys).T", "(x @ keys) @ (x @ query).T",
          VISION.format("units_side_by_side_are_multi_head_attention_and_an_mlp")),
    # Tiles of samples, families of runs, input.
    Fault("samples-of-one-thread", SWEEP, "reduce(np.add, map(np.asarray, levels))", "np.asarray(levels[0])",
          "tests/parallel/test_same_numbers.py::test_same_numbers_on_any_number_of_threads"),
    Fault("padding-counted-as-samples", SWEEP, "1.0 / samples, 0.0)", "1.0 / samples, 1.0 / samples)", TWO_RANKS),
    Fault("tiles-of-the-rank-before", SWEEP, "tile * (worker + workers * t)", "tile * (worker + t)", TWO_RANKS),
    Fault("cut-member-begins-anew", "mfpde/runs/parameter_sweep.py", "overwrite=not resume, resume=resume",
          "overwrite=True, resume=False",
          "tests/unit/test_parameter_sweep.py::test_every_combination_is_solved_once_and_summed_up"),
    Fault("archive-with-pickle", "mfpde/problem/datasets/archives.py", "allow_pickle=False)", "allow_pickle=True)",
          "tests/unit/test_drawn_input.py::test_nothing_in_an_archive_is_unpickled"),
    Fault("damaged-facts-not-caught", CHECKPOINT, "except Exception as error:  # a parser",
          "except OSError as error:  # a parser",
          "tests/unit/test_drawn_input.py::test_checkpoints[100]"),
    Fault("tables-without-end", "mfpde/config/run_file.py", "if depth > _DEEPEST:", "if depth > 10**6:",
          "tests/unit/test_run_file_settings.py::test_a_key_or_value_that_cannot_be"),
    Fault("mesh-not-checked", MESH, "if bad.any():", "if False:",
          "tests/unit/test_mesh_files.py::test_a_mesh_that_cannot_be_solved_on"),
    # Surroundings, and ranks that differ.
    Fault("rank-without-cells", PENALTY, "reshape(len(row), count * points)", "reshape(len(row), -1)",
          "tests/parallel/test_temperature_on_ranks.py"),
    Fault("step-not-compared-over-ranks", "mfpde/runs/problem_setup.py", '("layers", "step", "depth", "norm", "loss")',
          '("layers", "depth", "norm", "loss")',
          "tests/parallel/test_differing_settings.py::test_every_setting_of_solve_limit"),
    Fault("locale-of-the-user", MESH, 'locale.setlocale(locale.LC_NUMERIC, "C")', "pass",
          SURROUNDINGS.format("meshes_are_made_where_numbers_have_commas")),
    Fault("petsc-forgets-its-communicator", "mfpde/parallel/mpi.py", "return PETSc.Vec().createMPI((0, 0), comm",
          "PETSc.Vec().createMPI((0, 0), comm",
          "tests/parallel/test_end_of_ranks.py::test_an_object_that_one_rank_still_has_keeps_no_other_waiting"),
    Fault("every-rank-works", WORKING_RANKS, "machine.rank < cores or", "machine.rank >= 0 or",
          "tests/parallel/test_working_ranks.py::test_asleep_or_awake_the_bits_are_the_same"),
    Fault("cores-of-the-first-rank", WORKING_RANKS, ".union(*affinities)", ".union(affinities[0])",
          "tests/parallel/test_working_ranks.py::test_cores_of_ranks_that_are_bound_and_of_those_that_are_not"),
    Fault("fork-taken-for-a-process", "mfpde/parallel/mpi.py", "if _starter() != os.getpid():", "if False:",
          SURROUNDINGS.format("a_process_that_was_forked_after_mpi_had_started")),
    Fault("empty-classes-taken", "mfpde/problem/tasks.py", "if len(present) <= most:", "if False:",
          "tests/unit/test_task_archives.py::test_an_archive_that_holds_no_task[labels from 1]"),
    Fault("saved-names-as-given", "mfpde/config/run_file.py", "renamed(self._resolved(), seen_from(place, self.base))",
          "self._resolved()", "tests/restart/test_saved_run_file.py::test_it_names_the_same_files"),
    Fault("cells-of-a-checkpoint-not-all-there", CHECKPOINT, "if not found.all():", "if not found.any():",
          "tests/restart/test_forged_checkpoints.py::test_a_forged_checkpoint_is_refused[one cell twice]"),
    Fault("rank-zero-refuses-alone", CHECKPOINT, "except InputError as error:\n                got = error",
          "except ZeroDivisionError as error:\n                got = error",
          "tests/restart/test_forged_checkpoints.py::test_two_ranks_refuse_a_forged_checkpoint_alike"),
    # Densities carried by the flow.
    Fault("carried-uphill", NODES_FOLLOW, "position=-potential.slope", "position=potential.slope", DECAYING),
    Fault("carried-density-thins-where-it-gathers", NODES_FOLLOW, "log_density=potential.laplacian",
          "log_density=-potential.laplacian", DECAYING),
    Fault("decay-in-one-direction-only", OF_NODES, "0.0, weight_decay * dim", "0.0, weight_decay", DECAYING),
    # Random nodes.
    Fault("moments-not-matched", SEQUENCES, "    if matched:", "    if False:",
          RANDOM.format("families_with_many_linear_coordinates_against_their_ode[6-0.0]")),
    Fault("pairs-with-one-sign", SEQUENCES, "mirrored[:, axes] *= -1.0", "mirrored[:, axes] *= 1.0",
          RANDOM.format("points_have_the_mean_and_covariance_of_their_law_where_there_are_enough")),
    Fault("points-not-scrambled", SEQUENCES, "scramble=True", "scramble=False",
          RANDOM.format("random_nodes_against_a_grid_of_nodes")),
    Fault("nodes-not-weighed", CLOUDS, "slope = own[..., :-1] / part.mass[..., None]",
          "slope = own[..., :-1]",
          RANDOM.format("the_gradient_of_normalised_tokens_is_a_finite_transformers")),
    Fault("rules-of-equal-masses", "mfpde/output/clouds/midpoint_lattice.py", "mass[kept] / mass[kept].sum()",
          "np.full(kept.sum(), 1.0 / kept.sum())", MIDPOINTS),
    Fault("midpoints-of-equal-weights", "mfpde/output/clouds/midpoint_lattice.py", "np.exp(-0.5 * line**2)",
          "np.ones(order)", MIDPOINTS),
    Fault("rules-with-moments-of-their-own", "mfpde/limit/sampled/midpoint_rule.py",
          "match_moments(points, law, [axis for axis in range(law.dim) if axis not in law.degenerate], mass)", "pass",
          "tests/exact/test_midpoint_rule.py::test_rules_have_the_moments_of_their_laws[uniform]"),
    Fault("gap-beside-few-passes", "mfpde/limit/solver.py", "return last and not self.few_passes", "return last",
          "tests/unit/test_gap_of_reports.py::test_of_training_by_steps_the_last_after_twenty_passes[79-False]"),
    Fault("bias-not-corrected", DESCENT, "return optax.scale_by_adam(b1=own.beta1, b2=own.beta2, eps=own.epsilon)",
          "inner = optax.scale_by_adam(b1=own.beta1, b2=own.beta2, eps=own.epsilon)\n"
          "                late = jnp.asarray(10**6, jnp.int32)\n"
          "                return optax.GradientTransformation(\n"
          "                    inner.init, lambda g, s, p=None: inner.update(g, s._replace(count=late), p)\n"
          "                )", BY_STEPS.format("bilinear_heads_obey_the_exact_recursion[adamw]")),
    Fault("decay-not-decoupled", DESCENT,
          "self._direction(),\n            optax.add_decayed_weights(self.weight_decay),",
          "optax.add_decayed_weights(self.weight_decay),\n            self._direction(),",
          BY_STEPS.format("units_at_the_nodes_trained_by_optax_are_the_nodes[rule]")),
    Fault("decay-in-the-gradient-too", DESCENT_STEPPER, "each.potential(part, outcome.slopes, 0.0).slope",
          "each.potential(part, outcome.slopes, self.descent.weight_decay).slope",
          BY_STEPS.format("means_of_linear_heads_obey_the_exact_recursion[sgd]")),
    Fault("batch-weighed-as-the-whole-set", DESCENT_STEPPER, "outcome.slopes, 0.0).slope for",
          "outcome.slopes, 0.0).slope * self.descent.batches.taken / self._task.samples for",
          BY_STEPS.format("a_table_is_within_its_own_accuracy")),
    Fault("one-batch-for-all-steps", DESCENT_STEPPER, "batches.at(self.steps)", "batches.at(0)",
          BY_STEPS.format("units_at_the_nodes_trained_by_optax_are_the_nodes[rule]")),
    Fault("clipped-node-by-node", DESCENT_STEPPER, "factors[:, None, None] * gradient for",
          "gradient / np.maximum(1.0, np.sqrt((gradient**2).sum(axis=2, keepdims=True)) / 0.2) for",
          BY_STEPS.format("units_at_the_nodes_trained_by_optax_are_the_nodes[rule]")),
    Fault("optimiser-not-resumed", DESCENT_STEPPER, "self._optimiser = loaded_optimiser(",
          "_ = loaded_optimiser(", RESUME + "test_training_by_steps_goes_on_bit_for_bit_from_any_step[18]"),
    Fault("orders-without-a-seed", "mfpde/problem/batches.py", "default_rng([seed, number])", "default_rng([number])",
          BY_STEPS.format("batches_are_those_of_the_method")),
    Fault("finite-decay-in-the-gradient", FINITE_STEPS, "shares=shares, weight_decay=0.0", "shares=shares",
          FINITE_BY_STEPS.format("steps_are_those_of_optax_on_the_loss_times_layers_and_units[sgd-None]")),
    Fault("finite-clip-without-layers", FINITE_STEPS, "start=jnp.zeros(())) / layers)", "start=jnp.zeros(())))",
          FINITE_BY_STEPS.format("steps_are_those_of_optax_on_the_loss_times_layers_and_units[momentum-0.05]")),
    Fault("replicas-share-a-gradient", SWEEP, "return values[0].sum(), values", "return values[0].mean(), values",
          RANDOM.format("random_nodes_against_a_grid_of_nodes")),
    Fault("value-matrices-in-the-place-of-moments", "mfpde/problem/family.py",
          "return jnp.concatenate([q, first], axis=-1)[..., order]",
          "return jnp.concatenate([q, jnp.ones_like(first)], axis=-1)[..., order]",
          RANDOM.format("families_with_many_linear_coordinates_against_their_ode[6-0.0]")),
    Fault("gradient-of-the-gap-not-scaled", "mfpde/limit/certificate/potential_probes.py",
          "size[..., 0] * table[..., column]", "table[..., column]",
          "tests/exact/test_potential_probes.py::test_derivatives_of_the_reduced_potential_against_differences[True]"),
    Fault("tokens-not-normalised", "mfpde/problem/transformer.py", 'if self.norm == "rms":', "if False:",
          "tests/unit/test_shipped_families.py::test_tokens_that_families_see_are_normalised"),
    Fault("causal-mask-left-out", "mfpde/problem/models/value_matrices.py", "if causal:", "if False:",
          "tests/unit/test_shipped_families.py::test_update_integral_and_their_check[causal value matrix]"),
    Fault("local-search-uphill", "mfpde/limit/certificate/local_search.py", "q - step[..., None] * g",
          "q + step[..., None] * g", RANDOM.format("without_a_table_the_gap_is_that_of_a_local_search")),
    Fault("first-rate-in-all-stages", PAIR, "weights[k] * rates[k, i]", "weights[k] * rates[0, i]",
          "tests/unit/test_predictor_corrector.py::"
          "test_the_pair_that_moves_the_nodes_is_of_order_five_and_its_difference_too"),
    Fault("initial-masses-not-one", INITIAL_NODES, "log, mass / total[:, None], table", "log, mass, table", DECAYING),
    Fault("carried-penalty-halved", NODES_FOLLOW, "2.0 * (part.position * rate.position)",
          "1.0 * (part.position * rate.position)", LAWFUL),
    Fault("table-does-not-see-nodes-move", OF_NODES,
          "spread_change(q, moved, self._sources(part.mass, part.position), low, spacing, count, self.block, levels)",
          "assert moved.size", LAWFUL),
    Fault("table-transposed", OF_NODES, "gradient.reshape(layers, -1, k)",
          "gradient.reshape(layers, k, -1).swapaxes(1, 2)", TABLE),
    Fault("curvature-of-a-table-lost", SPLINES, "laplacian_out[b, j, k] = total, curved",
          "laplacian_out[b, j, k] = total, 0.0",
          SPLINE.format("polynomials_of_degree_seven_in_each_direction_are_exact[2]")),
    Fault("curvature-on-a-line-halved", "mfpde/limit/tables/line_splines.py", "2.0 * second / spacing",
          "second / spacing", TABLE),
    Fault("spline-jump-row-wrong", SPLINES, "-56.0, 70.0, -56.0", "-56.0, 68.0, -56.0",
          SPLINE.format("polynomials_of_degree_seven_in_each_direction_are_exact[1]")),
    Fault("sums-not-transposed", SPLINES, "[_interpolation(each).T for each in count]",
          "[np.eye(each, each + SUPPORT - 2, _KNOTS) for each in count]",
          SPLINE.format("sums_over_nodes_are_the_transpose_of_interpolation[2]")),
    Fault("sums-see-one-direction-move", SPLINES, "value[1, s] + moved[1] * value[0, r] * first[1, s]", "value[1, s]",
          SPLINE.format("the_change_of_sums_is_the_derivative_along_the_motion[2]")),
    Fault("fresh-masses-not-one", REMAP, "weight[..., 0] / total", "weight[..., 0]", CONSERVED),
    Fault("fresh-mean-and-covariance-left", REMAP,
          "with_moments(fresh, found, (mean, covariance), grid.family.linear)",
          "fresh", CONSERVED),
    Fault("fresh-density-not-pulled-back", STENCILS, "if missed[p] <= tolerance", "if missed[p] <= 1e3", CONSERVED),
    Fault("table-shrinks-into-noise", OF_NODES, "np.maximum(high - low, self._narrowest)",
          "np.maximum(high - low, 1e-12)",
          "tests/exact/test_lagrangian_nodes.py::test_derivatives_at_nodes_of_a_density_that_has_collapsed"),
    Fault("defect-not-checked", REMAP, "if not defect <= DEFECT:", "if np.isnan(defect):",
          CARRIED.format("the_defect_of_a_remap_decides[1.01-inf]")),
    Fault("fresh-nodes-worse-than-old", REMAP, "min(_SMOOTH, _LOSS * nested(grid, part)[1])", "1.0", DIVIDED),
    Fault("grading-left-out-of-masses", NODE_WEIGHTS, "law.standard(middle + half * place) * slope",
          "law.standard(middle + half * place)",
          START.format("mass_mean_and_covariance_at_default_settings[normal-lagrangian]")),
    Fault("grids-not-graded", LAGRANGIAN, "if all(smooth) else 0.0", "if False else 0.0", DIVIDED),
    Fault("nodes-cut-inside-blocks", OF_NODES, "min(self.block * (blocks * rank // ranks), self.nodes)",
          "self.nodes * rank // ranks", "tests/parallel/test_nodes_of_ranks.py::test_a_rank_holds_its_nodes_alone[2]"),
    Fault("nodes-saved-by-layers", RESTART, "CellRows(each.cell_order, np.moveaxis(array, part.axis, 0))",
          "CellRows(each.cell_order, array)", RESUME + "test_nodes_that_the_flow_carries_go_on_bit_for_bit"),
    Fault("shear-taken-for-tearing", RESOLUTION, "spread - float((fit * centred).sum())", "spread", IN_TIME),
)  # fmt: skip


def choose(names: Sequence[str]) -> list[Fault]:
    """The faults of these names; all for none."""
    known = {fault.name: fault for fault in FAULTS}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise FaultError(f"no such fault: {', '.join(unknown)}; --list shows all")
    return [known[name] for name in names] if names else list(FAULTS)


def judge_all(faults: Sequence[Fault], jobs: int) -> Iterator[tuple[Fault, Verdict]]:
    """Every fault with its verdict, several at a time, in the order in which they are known."""
    with copies() as folder, ThreadPoolExecutor(jobs) as pool:
        start = time.perf_counter()
        check_clean(folder, faults, jobs)
        _show(f"{'none':34}", f"{time.perf_counter() - start:7.1f}", "every test passes")

        asked = {pool.submit(judge, folder, fault): fault for fault in faults}
        try:
            for done in as_completed(asked):
                yield asked[done], done.result()
        finally:
            pool.shutdown(cancel_futures=True)


def page(verdicts: Sequence[Verdict]) -> str:
    """The text of docs/faults.md, from the verdicts of a whole run."""
    found = {verdict.name: verdict for verdict in verdicts}
    applied = [fault for fault in FAULTS if fault.name in found]
    caught = sum(found[fault.name].outcome == "caught" for fault in applied)
    numerics = sum(fault.file.startswith(NUMERICS) for fault in FAULTS)
    slow = sum(found[fault.name].slow for fault in applied)

    lines = [
        "# Deliberate faults",
        "",
        "Each fault is a mistake that could be made in a line of the source. `uv run python tests/faults.py` puts",
        "every one of them alone into a copy, where it must turn its test into a failure, and writes this page. A",
        "failure by `NameError`, `ImportError`, `SyntaxError` or `AttributeError` counts for nothing: any test would",
        "have met it.",
        "",
        f"{len(FAULTS)} faults are listed, {numerics} of them in the numerics; {len(applied)} were applied and",
        f"{caught} caught for the right reason. `uv run pytest` runs the tests of {len(applied) - slow} of them; those",
        f"of the other {slow} are marked `slow`, and `.ci/run` runs them too.",
        "",
        "| fault | in | test that fails | run by | reason |",
        "|---|---|---|---|---|",
        *(_row(fault, found.get(fault.name)) for fault in FAULTS),
    ]
    return "\n".join(lines) + "\n"


def _row(fault: Fault, verdict: Verdict | None) -> str:
    test, run, reason = fault.tests, "", "not applied"
    if verdict is not None:
        test, run = verdict.test or fault.tests, "`.ci/run`" if verdict.slow else "default"
        reason = verdict.reason if verdict.outcome == "caught" else f"**{verdict.outcome}** {verdict.reason}"
    safe = reason[:100].replace("|", "\\|").replace("`", "'").replace("<", "&lt;")
    return f"| {fault.name} | `{fault.file}` | `{test.replace('|', '/')}` | {run} | {safe} |"


def results() -> list[Verdict]:
    """The verdicts of the last whole run."""
    return [Verdict(**each) for each in json.loads(RESULTS.read_text(encoding="utf-8"))]


def _show(*columns: object) -> None:
    sys.stdout.write(" | ".join(str(c) for c in columns) + "\n")
    sys.stdout.flush()


def main(words: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="faults to make; all unless given")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="faults at a time")
    parser.add_argument("--list", action="store_true", help="name all faults, and run nothing")
    parser.add_argument("--page", action="store_true", help="write docs/faults.md from the last whole run")
    given = parser.parse_args(words)
    try:
        faults = choose(given.names)
        check_texts(faults)
        if given.page:
            PAGE.write_text(page(results()), encoding="utf-8")
            return 0
        if given.list:
            for fault in faults:
                _show(f"{fault.name:34}", fault.file, fault.tests)
            return 0
        return _run(faults, given.jobs)
    except FaultError as error:
        sys.stderr.write(f"{error}\n")
        return 2


def _run(faults: Sequence[Fault], jobs: int) -> int:
    _show(f"{'fault':34}", "seconds", "outcome  ", "test", "reason")
    found: dict[str, Verdict] = {}
    for fault, verdict in judge_all(faults, jobs):
        found[fault.name] = verdict
        _show(f"{fault.name:34}", f"{verdict.seconds:7.1f}", f"{verdict.outcome:9}", verdict.test or fault.tests,
              verdict.reason)  # fmt: skip

    caught = sum(verdict.outcome == "caught" for verdict in found.values())
    _show(f"{len(faults)} faults, {caught} caught for the right reason")
    if len(faults) == len(FAULTS):
        ordered = [found[fault.name] for fault in FAULTS]
        RESULTS.write_text(json.dumps([asdict(v) for v in ordered], indent=1, ensure_ascii=False) + "\n")
        PAGE.write_text(page(ordered), encoding="utf-8")
    return 0 if caught == len(faults) else 1


if __name__ == "__main__":
    raise SystemExit(main())
