from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vnbench.batching.sizes import MAX_SEED, SizeDistribution, draw_sizes, read_sizes_csv
from vnbench.errors import InputError
from vnbench.records.spec.words import SIZE_LAWS, SizeLaw
from vnbench.units import MAX_SIDE_PIXELS, PixelRange


def distribution(widths: tuple[int, int], heights: tuple[int, int], law: SizeLaw = "uniform") -> SizeDistribution:
    return SizeDistribution(
        widths=PixelRange(start=widths[0], stop=widths[1]),
        heights=PixelRange(start=heights[0], stop=heights[1]),
        law=law,
    )


def ranges() -> st.SearchStrategy[tuple[int, int]]:
    sides = st.integers(1, MAX_SIDE_PIXELS)
    return st.tuples(sides, sides).map(lambda pair: (min(pair), max(pair)))


class TestDrawSizes:
    @given(
        widths=ranges(),
        heights=ranges(),
        law=st.sampled_from(SIZE_LAWS),
        short=st.integers(1, 50),
        longer_by=st.integers(0, 50),
        seed=st.integers(0, MAX_SEED),
    )
    @settings(deadline=None)
    def test_sizes_are_in_range_and_a_longer_draw_starts_with_the_shorter_one(
        self,
        widths: tuple[int, int],
        heights: tuple[int, int],
        law: SizeLaw,
        short: int,
        longer_by: int,
        seed: int,
    ) -> None:
        wanted = distribution(widths, heights, law)
        sizes_N2 = draw_sizes(wanted, short + longer_by, seed=seed)
        assert sizes_N2.shape == (short + longer_by, 2)
        assert sizes_N2.dtype == np.int64
        assert heights[0] <= sizes_N2[:, 0].min() <= sizes_N2[:, 0].max() <= heights[1]
        assert widths[0] <= sizes_N2[:, 1].min() <= sizes_N2[:, 1].max() <= widths[1]
        np.testing.assert_array_equal(sizes_N2[:short], draw_sizes(wanted, short, seed=seed))

    def test_the_draw_of_a_seed_stays_the_same_in_every_version(self) -> None:
        wanted = distribution((3200, 12800), (480, 640))
        assert draw_sizes(wanted, 3, seed=0).tolist() == [[491, 11465], [558, 4227], [517, 3433]]

    def test_another_seed_draws_other_sizes(self) -> None:
        wanted = distribution((3200, 12800), (480, 640))
        assert (draw_sizes(wanted, 100, seed=0) != draw_sizes(wanted, 100, seed=1)).any(axis=1).mean() > 0.95

    def test_uniform_gives_every_length_the_same_share_ends_included(self) -> None:
        widths_N = draw_sizes(distribution((1, 4), (7, 7)), 40_000, seed=0)[:, 1]
        # 10,000 expected of each; the standard deviation is sqrt(40000 x 1/4 x 3/4) = 87.
        assert np.bincount(widths_N)[1:] == pytest.approx([10_000] * 4, abs=400)

    def test_log_uniform_gives_every_octave_the_same_share_ends_included(self) -> None:
        widths_N = draw_sizes(distribution((1, 7), (7, 7), "log-uniform"), 40_000, seed=0)[:, 1]
        counts = np.bincount(widths_N)[1:]
        lengths = np.arange(1, 8)
        # The law on [1, 8): log2((n + 1) / n) / 3, so 1 alone, 2 to 3, and 4 to 7 have a third each.
        assert counts == pytest.approx(40_000 * np.log2((lengths + 1) / lengths) / 3, abs=400)
        assert [counts[0], counts[1:3].sum(), counts[3:].sum()] == pytest.approx([40_000 / 3] * 3, abs=400)

    @pytest.mark.parametrize("law", SIZE_LAWS)
    def test_a_range_of_one_length_gives_that_length(self, law: SizeLaw) -> None:
        assert np.unique(draw_sizes(distribution((640, 640), (480, 480), law), 1000, seed=1), axis=0).tolist() == [
            [480, 640]
        ]

    def test_height_and_width_are_independent(self) -> None:
        sizes_N2 = draw_sizes(distribution((3200, 12800), (480, 640)), 40_000, seed=0)
        assert abs(np.corrcoef(sizes_N2[:, 0], sizes_N2[:, 1])[0, 1]) < 0.02

    @pytest.mark.parametrize(("num_examples", "seed"), [(0, 0), (-1, 0), (1, -1), (1, MAX_SEED + 1)])
    def test_a_draw_without_examples_or_with_a_bad_seed_is_refused(self, num_examples: int, seed: int) -> None:
        with pytest.raises(ValueError, match=r"num_examples|seed"):
            draw_sizes(distribution((1, 2), (1, 2)), num_examples, seed=seed)

    @pytest.mark.parametrize(("start", "stop"), [(0, 5), (5, 4), (1, MAX_SIDE_PIXELS + 1)])
    def test_a_range_that_is_no_range_of_sides_is_refused(self, start: int, stop: int) -> None:
        with pytest.raises(ValueError, match="widths"):
            distribution((start, stop), (1, 2))
        with pytest.raises(ValueError, match="heights"):
            distribution((1, 2), (start, stop))

    def test_an_unknown_law_is_refused(self) -> None:
        with pytest.raises(ValueError, match="normal"):
            distribution((1, 2), (1, 2), "normal")  # type: ignore[arg-type]


class TestReadSizesCsv:
    def write(self, folder: Path, text: str | bytes) -> Path:
        path = folder / "sizes.csv"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    @pytest.mark.parametrize(
        "text",
        [
            "width,height\n3200,480\n12800,640\n",
            "height,width\n480,3200\n640,12800\n",
            "name, width ,note,height\na, 3200 ,,480\nb,12800,x,640",
            "\ufeffwidth,height\r\n3200,480\r\n\r\n12800,640,\r\n\r\n",
            'width,height\n"3200","480"\n+12800,0640\n',
            "Width;Height\n3200;480\n12800;640\n",
            '"name"\t"HEIGHT"\t"WIDTH"\n"a"\t"480"\t"3200"\n"b"\t"640"\t"12800"\n',
            "width_px,height_px\n3200,480\n12800,640\n",
            "Width (px),Height [pixels]\n3200,480\n,\n12800,640\n,,\n",
            "file,w,h,\nx,3200,480,\ny,12800,640,\n",
            "image_width,image_height\n3200,480\n12800,640\n",
            "imagePath;imageHeight;imageWidth\na;480;3200\nb;640;12800\n",
            "Image Width (px),Image Height (px)\n3200,480\n12800,640\n",
            "width;height\n3200,0;480,0\n12800,0;640,0\n",
            "sep=;\r\nwidth;height\r\n3200;480\r\n12800;640\r\n;\r\n",
            '\n"sep=;"\r\n\r\nwidth;height\r\n3200;480\r\n12800;640\r\n',
            "\n , ,\r\nwidth;height\n3200;480\n12800;640\n",
            gzip.compress(b"width,height\n3200,480\n12800,640\n", mtime=0),
            "index,width,height\n0,3200.0,480.0\n1,12800.0,640.0\n",
            "width\theight\r\n3200\t480\r\n12800\t640\r\n".encode("utf-16"),
            "\ufeffwidth\theight\r\n3200\t480\r\n12800\t640\r\n".encode("utf-16-be"),
        ],
    )
    def test_sizes_are_read_whatever_the_column_order_and_the_other_columns(
        self, tmp_path: Path, text: str | bytes
    ) -> None:
        sizes_N2 = read_sizes_csv(self.write(tmp_path, text))
        assert sizes_N2.dtype == np.int64
        assert sizes_N2.tolist() == [[480, 3200], [640, 12800]]

    def test_sides_of_one_pixel_and_of_the_largest_side_are_read(self, tmp_path: Path) -> None:
        path = self.write(tmp_path, f"width,height\n{MAX_SIDE_PIXELS},1\n")
        assert read_sizes_csv(path).tolist() == [[1, MAX_SIDE_PIXELS]]

    @pytest.mark.parametrize(
        "value", ["", " ", "abc", "3200.5", "12.000", "1e3", "nan", "1_000", "0", "-5", "200001", "9" * 5000, "٣"]
    )
    @pytest.mark.parametrize("column", ["width", "height"])
    def test_a_bad_side_is_refused_naming_file_line_column_and_value(
        self, tmp_path: Path, value: str, column: str
    ) -> None:
        row = f"{value},480" if column == "width" else f"3200,{value}"
        path = self.write(tmp_path, f"width,height\n3200,480\n\n{row}\n3200,480\n")
        with pytest.raises(InputError) as caught:
            read_sizes_csv(path)
        assert f"{path}, line 4: {column} '{value.strip()[:40]}" in str(caught.value)
        assert len(str(caught.value)) < 300 + len(str(path))

    def test_the_line_is_the_files_even_after_a_line_of_excel(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="line 3: width 'x'"):
            read_sizes_csv(self.write(tmp_path, "sep=;\nwidth;height\nx;480\n"))

    def test_the_line_is_the_files_even_after_a_cell_of_two_lines(self, tmp_path: Path) -> None:
        path = self.write(tmp_path, 'width,height,note\n3200,480,"two\nlines"\nx,480,\n')
        with pytest.raises(InputError, match="line 4: width 'x'"):
            read_sizes_csv(path)

    def test_a_row_that_ends_early_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="line 2: height ''"):
            read_sizes_csv(self.write(tmp_path, "width,height\n3200\n"))

    def test_a_thousands_separator_is_not_read_as_a_small_width(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"line 2: '12,800,640'.*thousands"):
            read_sizes_csv(self.write(tmp_path, "width,height\n12,800,640\n"))

    @pytest.mark.parametrize(
        ("text", "column"),
        [
            ("height\n480\n", "width"),
            ("width|height\n3200|480\n", "height"),
            ("width_mm,height_mm\n3200,480\n", "height"),
            ("w,image_width,height\n1,2,3\n", "width"),
            ("width,height,width\n1,2,3\n", "width"),
        ],
    )
    def test_a_header_without_each_column_once_is_refused_naming_the_column(
        self, tmp_path: Path, text: str, column: str
    ) -> None:
        with pytest.raises(InputError, match=f"line 1.*exactly one column {column}"):
            read_sizes_csv(self.write(tmp_path, text))

    def test_numbers_in_the_first_line_are_no_header(self, tmp_path: Path) -> None:
        told = r"line 1: '3200,480': the header line is missing; begin the file with a header such as width,height"
        with pytest.raises(InputError, match=told):
            read_sizes_csv(self.write(tmp_path, "3200,480\n6400,512\n"))

    def test_the_header_is_named_at_its_line(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="line 3: 'width': exactly one column height"):
            read_sizes_csv(self.write(tmp_path, "\n\nwidth\n3200\n"))
        with pytest.raises(InputError, match="line 4: width 'x'"):
            read_sizes_csv(self.write(tmp_path, "\n\nwidth,height\nx,480\n"))

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "the file is empty; write a header"),
            (b"\xef\xbb\xbf", "the file is empty"),
            (b"\n\r\n,,\n", "the file is empty"),
            (gzip.compress(b"", mtime=0), "the file is empty"),
            (gzip.compress(bytes(range(200)), mtime=0)[:-20], "cannot be unpacked"),
            (gzip.compress(b"\x89PNG\r\n\0", mtime=0), "is an image"),
            ("width,height\n1,2\n".encode("utf-16-le"), "holds zero bytes, like UTF-16 without a byte order mark"),
            ("width,height\n1,2\n".encode("utf-32"), "is text in UTF-32"),
            (b"\x89PNG\r\n\x1a\n\0\0", "is an image, not CSV text; name the folder of the images"),
            (b"\xff\xd8\xff\xe0\0", "is an image"),
            (b"PK\x03\x04\0\0[Content_Types].xml", "is a spreadsheet, not CSV text; save its table as CSV"),
            (b"PK\x03\x04\0\0sizes.csv", "is compressed with zip; .*run unzip"),
            (b"\xfd7zXZ\0", "is compressed with xz"),
            (b"width,height,name\n1,2,Bo\xdfel\n", "line 2: byte 0xdf: .* Latin-1 .*; save it as CSV in UTF-8"),
        ],
    )
    def test_what_is_no_utf_8_is_called_what_it_is(self, tmp_path: Path, content: bytes, message: str) -> None:
        with pytest.raises(InputError, match=rf"sizes\.csv.*{message}"):
            read_sizes_csv(self.write(tmp_path, content))

    def test_a_file_without_rows_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="no sizes below the header"):
            read_sizes_csv(self.write(tmp_path, "width,height\n\n"))

    @pytest.mark.parametrize("content", [b"width,height\n\xff\xfe,480\n", b"\x89PNG\r\n\x1a\n\x00\x00", b'"' * 200_001])
    def test_a_file_that_is_no_csv_is_refused(self, tmp_path: Path, content: bytes) -> None:
        with pytest.raises(InputError, match=r"sizes\.csv"):
            read_sizes_csv(self.write(tmp_path, content))

    def test_a_missing_file_or_a_folder_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"none\.csv.*No such file"):
            read_sizes_csv(tmp_path / "none.csv")
        with pytest.raises(InputError, match="cannot be read"):
            read_sizes_csv(tmp_path)
