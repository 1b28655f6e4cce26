// SPDX-License-Identifier: Apache-2.0

import com.netflix.hollow.core.index.HollowPrimaryKeyIndex;
import com.netflix.hollow.core.read.HollowBlobInput;
import com.netflix.hollow.core.read.engine.HollowBlobReader;
import com.netflix.hollow.core.read.engine.HollowReadStateEngine;
import com.netflix.hollow.core.write.HollowBlobWriter;
import com.netflix.hollow.core.write.HollowTypeWriteState;
import com.netflix.hollow.core.write.HollowWriteStateEngine;
import com.netflix.hollow.core.write.objectmapper.HollowObjectMapper;
import com.netflix.hollow.core.write.objectmapper.HollowPrimaryKey;
import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.lang.management.ManagementFactory;
import java.lang.management.ThreadMXBean;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.SplittableRandom;
import java.util.logging.LogManager;

/**
 * Hollow as a contestant of bench_hollow.py: Apply ids|names KEYS CHANGES SEED NAMES WARMUP. Records of a key (a long, or a name as Hollow keeps strings: by
 * reference, each once) and a count. Each {@code apply} makes the delta blob of CHANGES uniformly random changes by 1 to 50, and measures a consumer's state
 * engine reading it from memory, in ns of CPU time a change; {@code indexed} the same of a consumer that keeps a primary key index, so that
 * records can be found by their key; {@code bytes} is the last blob's, a change. Garbage is collected between, not within.
 */
public final class Apply {
    @HollowPrimaryKey(fields = "key")
    static final class Id {
        long key;
        long count;
    }

    @HollowPrimaryKey(fields = "key")
    static final class Name {
        String key;
        long count;
    }

    private static final ThreadMXBean THREADS = ManagementFactory.getThreadMXBean();

    private final boolean ids;
    private final int changes;
    private final String[] names;
    private final SplittableRandom random;
    private final long[] counts;
    private final int[] ordinals;
    private final HollowWriteStateEngine producer = new HollowWriteStateEngine();
    private final HollowObjectMapper mapper = new HollowObjectMapper(producer);
    private final HollowReadStateEngine plain = new HollowReadStateEngine();
    private final HollowReadStateEngine indexed = new HollowReadStateEngine();
    private final HollowPrimaryKeyIndex index;
    private double indexedNs;
    private double bytes;

    Apply(boolean ids, int keys, int changes, long seed, String namesPath) throws IOException {
        this.ids = ids;
        this.changes = changes;
        names = ids ? null : names(keys, Path.of(namesPath));
        random = new SplittableRandom(seed);
        counts = new long[keys];
        ordinals = new int[keys];
        mapper.initializeTypeState(ids ? Id.class : Name.class);
        for (int i = 0; i < keys; i++) {
            counts[i] = i + 1;
            ordinals[i] = add(i);
        }
        producer.prepareForWrite();
        ByteArrayOutputStream blob = new ByteArrayOutputStream();
        new HollowBlobWriter(producer).writeSnapshot(blob);
        producer.prepareForNextCycle();
        for (HollowReadStateEngine engine : List.of(plain, indexed)) {
            new HollowBlobReader(engine).readSnapshot(HollowBlobInput.serial(blob.toByteArray()));
        }
        index = new HollowPrimaryKeyIndex(indexed, ids ? "Id" : "Name", "key");
        index.listenForDeltaUpdates();
    }

    private static String[] names(int keys, Path path) throws IOException {
        List<String> lines = Files.readAllLines(path);
        String[] found = new String[keys];
        for (int i = 0; i < keys; i++) {
            String line = lines.get(i % lines.size());
            String name = line.substring(0, line.indexOf('\t'));
            found[i] = i < lines.size() ? name : name + "@" + i / lines.size();
        }
        return found;
    }

    private Object key(int i) {
        return ids ? (Object) mix(i + 1L) : names[i];
    }

    private static long mix(long x) {
        x = (x ^ x >>> 30) * 0xbf58476d1ce4e5b9L;
        x = (x ^ x >>> 27) * 0x94d049bb133111ebL;
        return x ^ x >>> 31;
    }

    private int add(int i) {
        if (ids) {
            Id row = new Id();
            row.key = mix(i + 1L);
            row.count = counts[i];
            return mapper.add(row);
        }
        Name row = new Name();
        row.key = names[i];
        row.count = counts[i];
        return mapper.add(row);
    }

    double apply() throws IOException {
        producer.addAllObjectsFromPreviousCycle();
        HollowTypeWriteState rows = producer.getTypeState(ids ? "Id" : "Name");
        boolean[] drawn = new boolean[counts.length];
        int last = 0;
        for (int done = 0; done < changes;) {
            int i = random.nextInt(counts.length);
            if (drawn[i]) continue;
            drawn[i] = true;
            rows.removeOrdinalFromThisCycle(ordinals[i]);
            counts[i] += 1 + random.nextInt(50);
            ordinals[i] = add(i);
            last = i;
            done++;
        }
        ByteArrayOutputStream blob = new ByteArrayOutputStream();
        producer.prepareForWrite();
        new HollowBlobWriter(producer).writeDelta(blob);
        producer.prepareForNextCycle();
        byte[] delta = blob.toByteArray();
        bytes = (double) delta.length / changes;
        System.gc();
        double ns = timed(plain, delta);
        indexedNs = timed(indexed, delta);
        if (index.getMatchingOrdinal(key(last)) != ordinals[last]) throw new IllegalStateException("the change was not applied");
        return ns;
    }

    private double timed(HollowReadStateEngine engine, byte[] delta) throws IOException {
        long start = THREADS.getCurrentThreadCpuTime();
        new HollowBlobReader(engine).applyDelta(HollowBlobInput.serial(delta));
        return (double) (THREADS.getCurrentThreadCpuTime() - start) / changes;
    }

    public static void main(String[] args) throws IOException {
        LogManager.getLogManager().reset(); // it tells of every delta
        Apply contestant = new Apply(args[0].equals("ids"), Integer.parseInt(args[1]), Integer.parseInt(args[2]), Long.parseLong(args[3]), args[4]);
        for (int i = 0; i < Integer.parseInt(args[5]); i++) contestant.apply();
        System.out.println("ready");
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line; (line = lines.readLine()) != null;) {
            switch (line) {
                case "apply" -> System.out.println(contestant.apply());
                case "indexed" -> System.out.println(contestant.indexedNs);
                case "bytes" -> System.out.println(contestant.bytes);
                default -> System.out.println("-");
            }
        }
    }
}
