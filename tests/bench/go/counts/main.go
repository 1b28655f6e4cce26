// SPDX-License-Identifier: Apache-2.0

// Counting in Go from several goroutines, as a contestant of contest.py: a sync.Map of counters, and a map behind an RWMutex, both drained every 20 ms
// by the first goroutine, as bench_tally.c does.
//
//	counts -keys N -adds N [-names FILE] [-seed N]
//
// Measurements: syncmap.1, syncmap.2, rwmutex.1, rwmutex.2, in ns of wall time an addition over all goroutines. A sync.Map cannot be emptied while
// others add without losing some of it, so its keys stay, and only its counters are taken; the other is exchanged for an empty one under its lock.
// Runs as js/wasm too, where there is one thread.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const drainEvery = 20 * time.Millisecond

var drawn []string

type counter interface {
	add(key string)
	drain() int64
}

type concurrent struct{ counts sync.Map }

func (m *concurrent) add(key string) {
	found, there := m.counts.Load(key)
	if !there {
		found, _ = m.counts.LoadOrStore(strings.Clone(key), new(atomic.Int64))
	}
	found.(*atomic.Int64).Add(1)
}

func (m *concurrent) drain() (sum int64) {
	m.counts.Range(func(_, count any) bool {
		sum += count.(*atomic.Int64).Swap(0)
		return true
	})
	return
}

type guarded struct {
	sync.RWMutex
	counts map[string]*atomic.Int64
}

func (m *guarded) add(key string) {
	m.RLock()
	count := m.counts[key]
	if count != nil {
		count.Add(1)
	}
	m.RUnlock()
	if count != nil {
		return
	}
	m.Lock()
	count = m.counts[key]
	if count == nil {
		count = new(atomic.Int64)
		m.counts[strings.Clone(key)] = count
	}
	count.Add(1)
	m.Unlock()
}

func (m *guarded) drain() (sum int64) {
	m.Lock()
	full := m.counts
	m.counts = make(map[string]*atomic.Int64, len(full))
	m.Unlock()
	for _, count := range full {
		sum += count.Load()
	}
	return
}

// First a quarter as many, unmeasured: what others left in the caches is not ours.
func measure(counts counter, goroutines, adds int) float64 {
	run(counts, goroutines, adds/4)
	return run(counts, goroutines, adds)
}

func run(counts counter, goroutines, adds int) float64 {
	var ready, done sync.WaitGroup
	start := make(chan struct{})
	var drained int64
	ready.Add(goroutines)
	done.Add(goroutines)
	each := adds / goroutines
	for g := 0; g < goroutines; g++ {
		go func(g int) {
			ready.Done()
			<-start
			next := time.Now().Add(drainEvery)
			at := g * len(drawn) / 2
			for i := 0; i < each; i++ {
				counts.add(drawn[(at+i)%len(drawn)])
				if g == 0 && i%256 == 0 && time.Now().After(next) {
					drained += counts.drain()
					next = time.Now().Add(drainEvery)
				}
			}
			done.Done()
		}(g)
	}
	ready.Wait()
	begin := time.Now()
	close(start)
	done.Wait()
	took := time.Since(begin)
	drained += counts.drain()
	if drained != int64(each*goroutines) {
		fmt.Fprintln(os.Stderr, "counts: what was added is not what was drained")
		os.Exit(1)
	}
	return float64(took.Nanoseconds()) / float64(each*goroutines)
}

func main() {
	keys := flag.Int("keys", 100000, "")
	adds := flag.Int("adds", 400000, "")
	path := flag.String("names", os.Getenv("TALLY_BENCH_NAMES"), "name<TAB>weight lines")
	seed := flag.Uint64("seed", 1, "")
	flag.Parse()
	bytes, err := os.ReadFile(*path)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	lines := strings.SplitN(string(bytes), "\n", *keys+1)[:*keys]
	drawn = make([]string, 1<<18)
	state := *seed
	for i := range drawn {
		state += 0x9e3779b97f4a7c15
		x := state
		x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
		x = (x ^ x>>27) * 0x94d049bb133111eb
		drawn[i], _, _ = strings.Cut(lines[(x^x>>31)%uint64(*keys)], "\t")
	}
	counters := map[string]counter{"syncmap": &concurrent{}, "rwmutex": &guarded{counts: map[string]*atomic.Int64{}}}
	for _, counts := range counters {
		run(counts, 1, *adds)
	}
	runtime.GC()
	fmt.Println("ready")
	for asked := bufio.NewScanner(os.Stdin); asked.Scan(); {
		name, goroutines, _ := strings.Cut(asked.Text(), ".")
		counts := counters[name]
		if counts == nil || (goroutines != "1" && goroutines != "2") {
			fmt.Fprintln(os.Stderr, "counts: no measurement is called", asked.Text())
			os.Exit(2)
		}
		fmt.Printf("%.6g\n", measure(counts, int(goroutines[0]-'0'), *adds))
	}
}
