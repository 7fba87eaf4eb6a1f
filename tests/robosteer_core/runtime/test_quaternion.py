"""Quaternion arithmetic agrees with scipy's."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from robosteer_core.runtime import quaternion


@pytest.mark.parametrize("size_rad", [0.0, 1e-12, 1e-5, 0.3, 3.0, np.pi - 1e-6])
def test_rotation_vectors_there_and_back(size_rad):
    for direction in np.random.default_rng(1).normal(size=(20, 3)):
        vector = direction / np.linalg.norm(direction) * size_rad
        found = quaternion.from_rotation_vector(vector)
        np.testing.assert_allclose(found, Rotation.from_rotvec(vector).as_quat(), atol=1e-12)
        np.testing.assert_allclose(quaternion.to_rotation_vector(found), vector, atol=1e-9)
        np.testing.assert_allclose(quaternion.to_rotation_vector(-found), vector, atol=1e-9)


def test_products_turns_and_their_inverse_agree_with_scipy():
    for a, b in Rotation.random(40, random_state=2).as_quat().reshape(20, 2, 4):
        first, second = Rotation.from_quat(a), Rotation.from_quat(b)
        np.testing.assert_allclose(
            Rotation.from_quat(quaternion.multiply(a, b)).as_matrix(), (first * second).as_matrix(), atol=1e-12
        )
        vector = quaternion.turn(a, b)
        np.testing.assert_allclose(vector, (second * first.inv()).as_rotvec(), atol=1e-9)
        np.testing.assert_allclose(abs(quaternion.turned(a, vector) @ b), 1.0, atol=1e-12)


def test_matrices_there_and_back_agree_with_scipy_also_where_the_turn_is_a_half():
    random = Rotation.random(40, random_state=3).as_quat()
    halves = Rotation.from_rotvec(np.pi * np.vstack([np.eye(3), -np.eye(3), [[0.6, 0.8, 0.0], [0.0, 0.6, 0.8]]])).as_quat()
    for one in [*random, *halves, np.array([0.0, 0.0, 0.0, 1.0])]:
        matrix = Rotation.from_quat(one).as_matrix()
        np.testing.assert_allclose(quaternion.to_matrix(2.0 * one), matrix, atol=1e-12)
        np.testing.assert_allclose(abs(quaternion.from_matrix(matrix) @ one), 1.0, atol=1e-12)
