// SPDX-License-Identifier: Apache-2.0
#include <io/inflate.h>
#include <strings.h>
#include <zlib.h>
#include <zstd.h>

#define STEP_BYTES  65536u
#define WINDOW_BITS 23 // of zstd: 8 MiB

bool tally_packing_of(const char *name, enum tally_packing *out_packing)
{
    if (!*name || strcasecmp(name, "identity") == 0)
        *out_packing = TALLY_PACKING_NONE;
    else if (strcasecmp(name, "gzip") == 0 || strcasecmp(name, "x-gzip") == 0)
        *out_packing = TALLY_PACKING_GZIP;
    else if (strcasecmp(name, "zstd") == 0)
        *out_packing = TALLY_PACKING_ZSTD;
    else
        return false;
    return true;
}

// Room for the next step, one byte more than the bound allows: whether that is taken tells that it is crossed.
static enum tally_status reserve(struct tally_writer *out, size_t start, size_t bytes_max, size_t *out_room)
{
    size_t left = bytes_max - (out->size - start) + 1;
    *out_room = left < STEP_BYTES ? left : STEP_BYTES;
    return tally_writer_reserve(out, *out_room) ? TALLY_OK : TALLY_NO_MEMORY;
}

static enum tally_status inflate_gzip(struct tally_bytes packed, size_t bytes_max, struct tally_writer *out)
{
    z_stream stream = {.next_in = (Bytef *)(uintptr_t)packed.data, .avail_in = (uInt)packed.size};
    size_t start = out->size, room;
    enum tally_status status = TALLY_OK;
    if (inflateInit2(&stream, 15 + 16) != Z_OK) return TALLY_NO_MEMORY;
    for (;;) {
        if ((status = reserve(out, start, bytes_max, &room))) break;
        stream.next_out = out->data + out->size;
        stream.avail_out = (uInt)room;
        int result = inflate(&stream, Z_NO_FLUSH);
        out->size += room - stream.avail_out;
        if (out->size - start > bytes_max) {
            status = TALLY_LIMIT;
        } else if (result == Z_STREAM_END) {
            if (!stream.avail_in) break;
            status = inflateReset(&stream) == Z_OK ? TALLY_OK : TALLY_MALFORMED; // another member
        } else if (result != Z_OK) {
            // Z_BUF_ERROR: there is room, so what is missing is input.
            status = result == Z_MEM_ERROR ? TALLY_NO_MEMORY : TALLY_MALFORMED;
        }
        if (status) break;
    }
    (void)inflateEnd(&stream);
    return status;
}

static enum tally_status inflate_zstd(struct tally_bytes packed, size_t bytes_max, struct tally_writer *out)
{
    ZSTD_DCtx *context = ZSTD_createDCtx();
    ZSTD_inBuffer in = {packed.data, packed.size, 0};
    size_t start = out->size, room, left = 1; // left: of the frame that is being read; 0: it is whole
    enum tally_status status = TALLY_OK;
    if (!context) return TALLY_NO_MEMORY;
    if (ZSTD_isError(ZSTD_DCtx_setParameter(context, ZSTD_d_windowLogMax, WINDOW_BITS))) status = TALLY_UNSUPPORTED;
    while (!status && (in.pos < in.size || left)) {
        if ((status = reserve(out, start, bytes_max, &room))) break;
        ZSTD_outBuffer to = {out->data + out->size, room, 0};
        size_t before = in.pos;
        left = ZSTD_decompressStream(context, &to, &in);
        out->size += to.pos;
        if (ZSTD_isError(left))
            status = TALLY_MALFORMED;
        else if (out->size - start > bytes_max)
            status = TALLY_LIMIT;
        else if (left && in.pos == before && !to.pos)
            status = TALLY_MALFORMED; // cut short
    }
    (void)ZSTD_freeDCtx(context);
    return status;
}

enum tally_status tally_inflate(enum tally_packing packing, struct tally_bytes packed, size_t bytes_max,
                                struct tally_writer *out)
{
    if (packing != TALLY_PACKING_NONE && packed.size == 0) return TALLY_MALFORMED;
    if (packing == TALLY_PACKING_GZIP) return inflate_gzip(packed, bytes_max, out);
    if (packing == TALLY_PACKING_ZSTD) return inflate_zstd(packed, bytes_max, out);
    if (packed.size > bytes_max) return TALLY_LIMIT;
    tally_write_raw(out, packed.data, packed.size);
    return out->failed ? TALLY_NO_MEMORY : TALLY_OK;
}
