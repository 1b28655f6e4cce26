// SPDX-License-Identifier: Apache-2.0

// Go's maps as a contestant of contest.py: a map behind an RWMutex and a sync.Map, of real names or of 8-byte keys.
//
//	maps -keys N -reads N [-ids] [-names FILE] [-seed N]
//
// Measurements, in ns of CPU time a read: rwmutex.dependent, rwmutex.independent, syncmap.dependent, syncmap.independent. As in names.h, what is
// asked for lies end to end in the order of asking. The keys are those of names.h and world.c. Runs as js/wasm too (bench_js.py).
package main

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
)

func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

var randomState uint64

func below(bound int) int {
	randomState += 0x9e3779b97f4a7c15
	return int(mix(randomState) >> 1 % uint64(bound))
}

func loadNames(path string, count int) []string {
	bytes, err := os.ReadFile(path)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	lines := strings.Split(strings.TrimSuffix(string(bytes), "\n"), "\n")
	names := make([]string, count)
	for i := range names {
		name, _, _ := strings.Cut(lines[i%len(lines)], "\t")
		if i >= len(lines) {
			name += "@" + strconv.Itoa(i/len(lines))
		}
		names[i] = name
	}
	return names
}

// Which bits of a value go into the next key: none, but the compiler cannot know.
//
//go:noinline
func noBits() int { return 0 }

// The loop is over the draws that there are: first over a quarter as many, unmeasured, as what others left in the caches is not ours.
func measure(reads int, draw func(reads int), loop func(reads int) int64) float64 {
	draw(reads / 4)
	loop(reads / 4)
	draw(reads)
	start := now()
	sum := loop(reads)
	end := now()
	if sum == 0 {
		fmt.Fprintln(os.Stderr, "maps: nothing was read")
		os.Exit(1)
	}
	return float64(end-start) / float64(reads)
}

type locked[K comparable] struct {
	sync.RWMutex
	values map[K]int64
}

func (m *locked[K]) get(key K) int64 {
	m.RLock()
	value := m.values[key]
	m.RUnlock()
	return value
}

func ofNames(path string, count, reads int) map[string]func() float64 {
	names := loadNames(path, count)
	guarded := &locked[string]{values: make(map[string]int64, count)}
	var concurrent sync.Map
	for i, name := range names {
		guarded.values[name] = int64(i + 1)
		concurrent.Store(name, int64(i+1))
	}
	text, ends := "", make([]int, reads+1)
	draw := func(reads int) {
		var all strings.Builder
		for i := 0; i < reads; i++ {
			all.WriteString(names[below(count)])
			ends[i+1] = all.Len()
		}
		text = all.String()
	}
	none := noBits()
	load := func(key string) int64 {
		value, _ := concurrent.Load(key)
		return value.(int64)
	}
	return map[string]func() float64{
		"rwmutex.dependent": func() float64 {
			return measure(reads, draw, func(reads int) (sum int64) {
				value := 0
				for i := 0; i < reads; i++ {
					value = int(guarded.get(text[ends[i]+value&none : ends[i+1]]))
					sum += int64(value)
				}
				return
			})
		},
		"rwmutex.independent": func() float64 {
			return measure(reads, draw, func(reads int) (sum int64) {
				for i := 0; i < reads; i++ {
					sum += guarded.get(text[ends[i]:ends[i+1]])
				}
				return
			})
		},
		"syncmap.dependent": func() float64 {
			return measure(reads, draw, func(reads int) (sum int64) {
				value := 0
				for i := 0; i < reads; i++ {
					value = int(load(text[ends[i]+value&none : ends[i+1]]))
					sum += int64(value)
				}
				return
			})
		},
		"syncmap.independent": func() float64 {
			return measure(reads, draw, func(reads int) (sum int64) {
				for i := 0; i < reads; i++ {
					sum += load(text[ends[i]:ends[i+1]])
				}
				return
			})
		},
	}
}

func ofIds(count, reads int, seed uint64) map[string]func() float64 {
	keys := make([]uint64, count)
	guarded := &locked[uint64]{values: make(map[uint64]int64, count)}
	var concurrent sync.Map
	for i := range keys {
		keys[i] = mix(seed + uint64(i) + 1)
		guarded.values[keys[i]] = int64(i + 1)
		concurrent.Store(keys[i], int64(i+1))
	}
	draws := make([]uint64, reads)
	draw := func(reads int) {
		for i := range draws[:reads] {
			draws[i] = keys[below(count)]
		}
	}
	none := int64(noBits())
	load := func(key uint64) int64 {
		value, _ := concurrent.Load(key)
		return value.(int64)
	}
	loops := func(get func(uint64) int64) (dependent, independent func() float64) {
		dependent = func() float64 {
			return measure(reads, draw, func(reads int) (sum int64) {
				value := int64(0)
				for _, key := range draws[:reads] {
					value = get(key + uint64(value&none))
					sum += value
				}
				return
			})
		}
		independent = func() float64 {
			return measure(reads, draw, func(reads int) (sum int64) {
				for _, key := range draws[:reads] {
					sum += get(key)
				}
				return
			})
		}
		return
	}
	found := map[string]func() float64{}
	found["rwmutex.dependent"], found["rwmutex.independent"] = loops(guarded.get)
	found["syncmap.dependent"], found["syncmap.independent"] = loops(load)
	return found
}

func main() {
	keys := flag.Int("keys", 1000000, "")
	reads := flag.Int("reads", 500000, "")
	ids := flag.Bool("ids", false, "8-byte keys instead of names")
	names := flag.String("names", os.Getenv("TALLY_BENCH_NAMES"), "name<TAB>weight lines")
	seed := flag.Uint64("seed", 1, "")
	flag.Parse()
	randomState = *seed
	runtime.LockOSThread()
	var measurements map[string]func() float64
	if *ids {
		measurements = ofIds(*keys, *reads, *seed)
	} else {
		measurements = ofNames(*names, *keys, *reads)
	}
	runtime.GC() // what loading left
	fmt.Println("ready")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		run, known := measurements[lines.Text()]
		if !known {
			fmt.Fprintln(os.Stderr, "maps: no measurement is called", lines.Text())
			os.Exit(2)
		}
		fmt.Printf("%.6g\n", run())
	}
}
