// The matrix tiles of AMX, and how numbers have to lie for them: a product of tiles adds up, for 16
// rows and 16 columns, 32 numbers of bfloat16, which the second tile holds as 16 rows of pairs.

#pragma once

#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lanes.hpp"

namespace {

constexpr int64_t rows = 16; // of a tile, and its columns of floats
constexpr int64_t deep = 32; // numbers that a product adds up
constexpr int64_t tile = rows * deep; // numbers of bfloat16 in it

// Returns whether the system lets this process use tiles, for which it has to be asked.
bool tiles_are_allowed()
{
    constexpr long request = 0x1023, tile_data = 18; // Linux's ARCH_REQ_XCOMP_PERM, XTILEDATA
    return syscall(SYS_arch_prctl, request, tile_data) == 0;
}

// Has all that was written lie in memory: the compiler does not see that tiles read it.
void settle()
{
    asm volatile("" ::: "memory");
}

// Makes all eight tiles 16 rows of 64 bytes, as long as it lives.
class Tiles {
public:
    Tiles()
    {
        struct alignas(64) {
            uint8_t palette = 1, reserved[15]{};
            uint16_t bytes[16]{};
            uint8_t rows[16]{};
        } config;
        for (int each = 0; each < 8; each++) {
            config.bytes[each] = 64;
            config.rows[each] = uint8_t(rows);
        }
        settle();
        _tile_loadconfig(&config);
    }

    ~Tiles() { _tile_release(); }
};

int64_t up(int64_t number, int64_t step)
{
    return (number + step - 1) / step * step;
}

// Returns which of 16 lanes hold one of so many numbers that are left.
__mmask16 first(int64_t left)
{
    return __mmask16(left >= rows ? 0xffff : (1 << left) - 1);
}

// Returns 16 pairs of numbers of 16 bits, which lie in 32 each.
__m512i paired(__m512i one, __m512i other)
{
    return _mm512_or_si512(one, _mm512_slli_epi32(other, 16));
}

// Turns 16 registers of 16 numbers of 32 bits: rows become columns.
void turn(__m512i (&r)[16])
{
    __m512i t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
    }
    for (int i = 0; i < 4; i++) {
        r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
        r[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
        r[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
    }
}

} // namespace
