"""Files of joblib: one that joblib 1.6.0 wrote, byte for byte, and what is refused."""

from __future__ import annotations

import base64
import pickle

import numpy as np
import pytest

from hsr_core.datasets.joblib_file import read_joblib
from hsr_core.errors import BadFile

# fmt: off
WRITTEN = base64.b85decode(
    rb"fCQD{000000001eluH49lqie@aBp*El#CN<Z(?j|VlHlVZE$&CaA{*}Y-N;;5l(e&aCt#;a$$K_a$#_AWpb30lqrFfeUvDS2y=B}"
    rb"V{Bn_bCiq)Zgp*Nd6bL?Ze(F{a$$Ltla!1Fb7*03Wt2+-O9O_Kj0JCUWMy)ci~&QGj0I$Ld2nTvXbFr3WOR9OWt5YYi~?pfl!=Ik"
    rb"lv0!^O9PAnJd{pOPD=m(|Nlz=|Ns9>0CbdMj0$0FY;Sj8ZEaz2l!%NQZgp*Nd0%02a$$L2VQgt<Zf#|5bYEh5bY*jtOAvKp1ONa3"
    rb"00000004kL0000$002Nh004kM005vsl~Diy000000E`7<WprV4lxPJhfs}oeC};?13up{W0!sphlxPl&0Y;Q)5NHyN0%kariHL`k"
    rb"Qj{o5185dbPEJby|Ns9=|NsC0O8|6~VrUqMXc<cobz%+w|NsC0|NsC0|NsC00000000000000000000$00000008hm00000000O;"
    rb"l}7*o000000E`4~VQpoUi~)F*j0SUKVQgV?l#CT_b!~8YE@N+UWiD-XY;<X1a&lpLl#B**V_|Gza+H&lXca>Q001CBl!la2ly!41"
)
# fmt: on
"""{1: {"pose": (2, 3) float32, "betas": (2, 2) float64 in Fortran order, "name": "x", "scalar": float32}}."""


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "smpl_output_optimized.pkl"
    path.write_bytes(WRITTEN)
    return path


def test_arrays_between_the_opcodes_are_read(path):
    person = read_joblib(path)[1]
    np.testing.assert_array_equal(person["pose"], np.arange(6, dtype=np.float32).reshape(2, 3))
    np.testing.assert_array_equal(person["betas"], [[0, 1], [2, 3]])
    assert person["pose"].dtype == np.float32
    assert (person["name"], person["scalar"]) == ("x", 2.5)


def test_it_reads_what_the_installed_joblib_writes(tmp_path):
    joblib = pytest.importorskip("joblib")
    data = {"a": np.random.default_rng(0).normal(size=(7, 3, 2)), "b": [np.arange(3), {"c": np.zeros((0, 3))}]}
    joblib.dump(data, tmp_path / "data.pkl")
    got = read_joblib(tmp_path / "data.pkl")
    np.testing.assert_array_equal(got["a"], data["a"])
    np.testing.assert_array_equal(got["b"][0], data["b"][0])
    assert got["b"][1]["c"].shape == (0, 3)


@pytest.mark.parametrize("length", [10, 150, 300, len(WRITTEN) - 1])
def test_truncated_files_are_refused(path, length):
    path.write_bytes(WRITTEN[:length])
    with pytest.raises(BadFile, match="smpl_output"):
        read_joblib(path)


class Payload:
    def __reduce__(self):
        import os

        return os.getcwd, ()


def test_what_would_run_code_is_refused_and_named(path):
    path.write_bytes(pickle.dumps({1: Payload()}))
    with pytest.raises(BadFile, match=r"posix\.getcwd|nt\.getcwd"):
        read_joblib(path)


def test_arrays_of_objects_are_refused(path):
    """An object array's own pickle would follow, which joblib reads without asking."""
    path.write_bytes(WRITTEN.replace(b"f4", b"O8", 1))
    with pytest.raises(BadFile, match="smpl_output"):
        read_joblib(path)
