package io.lockstep.bridge.refresh;

import static java.nio.charset.StandardCharsets.UTF_8;

import com.google.gerrit.server.config.GerritServerConfig;
import com.google.gerrit.server.config.SitePaths;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;
import com.google.inject.Inject;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import org.eclipse.jgit.lib.Config;

/**
 * What was refreshed a while ago. Lucene has a document in memory until its next commit, minutes later, and a Gerrit that
 * is killed loses it. So a task is written here before it is acknowledged, and what is found here at the next start is
 * checked again.
 *
 * <p>Two files: what is older than the time between two commits of Lucene leaves with the older one.
 */
final class Ledger {
  /** Gerrit's default of {@code index.NAME.commitWithin}. */
  private static final Duration COMMIT_WITHIN = Duration.ofMinutes(5);

  /** A commit that is due takes its time. */
  private static final Duration MARGIN = Duration.ofMinutes(1);

  private final Path folder;
  private final Duration span;
  private final Set<JsonObject> current = new HashSet<>();
  private long begun = System.nanoTime();

  @Inject
  Ledger(SitePaths site, @GerritServerConfig Config config) {
    this(site.data_dir.resolve("lockstep").resolve("refreshed"), longestCommitWithin(config).plus(MARGIN));
  }

  Ledger(Path folder, Duration span) {
    this.folder = folder;
    this.span = span;
  }

  /** Begins; the tasks that this process must check, which stay here as if they were kept now. */
  synchronized List<JsonObject> begin() throws IOException {
    Files.createDirectories(folder);
    Set<JsonObject> found = new HashSet<>(read(earlier()));
    found.addAll(read(now()));
    Path aside = folder.resolve("new");
    Files.deleteIfExists(aside);
    append(aside, found);
    Files.move(aside, now(), StandardCopyOption.ATOMIC_MOVE);
    Files.deleteIfExists(earlier());
    current.addAll(found);
    return new ArrayList<>(found);
  }

  /** Writes tasks down. They survive a crash when this returns. */
  synchronized void keep(Collection<JsonObject> tasks) throws IOException {
    if (System.nanoTime() - begun > span.toNanos()) {
      Files.move(now(), earlier(), StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
      current.clear();
      begun = System.nanoTime();
    }
    List<JsonObject> fresh = tasks.stream().map(Ledger::subject).filter(task -> !current.contains(task)).toList();
    append(now(), fresh);
    current.addAll(fresh);
  }

  /** A task without what differs between two of the same thing. */
  private static JsonObject subject(JsonObject task) {
    JsonObject subject = task.deepCopy();
    List.of("id", "own", "attempt").forEach(subject::remove);
    return subject;
  }

  private static void append(Path file, Collection<JsonObject> tasks) throws IOException {
    StringBuilder lines = new StringBuilder();
    tasks.forEach(task -> lines.append(task).append('\n'));
    try (FileChannel channel =
        FileChannel.open(file, StandardOpenOption.CREATE, StandardOpenOption.WRITE, StandardOpenOption.APPEND)) {
      ByteBuffer bytes = ByteBuffer.wrap(lines.toString().getBytes(UTF_8));
      while (bytes.hasRemaining()) {
        channel.write(bytes);
      }
      channel.force(false);
    }
  }

  /** A line that a crash cut off was not acknowledged. */
  private static List<JsonObject> read(Path file) throws IOException {
    List<JsonObject> tasks = new ArrayList<>();
    try {
      for (String line : Files.readAllLines(file, UTF_8)) {
        try {
          tasks.add(JsonParser.parseString(line).getAsJsonObject());
        } catch (JsonParseException | IllegalStateException e) {
          continue;
        }
      }
    } catch (NoSuchFileException e) {
      return tasks;
    }
    return tasks;
  }

  private Path now() {
    return folder.resolve("now");
  }

  private Path earlier() {
    return folder.resolve("earlier");
  }

  private static Duration longestCommitWithin(Config config) {
    long longest = COMMIT_WITHIN.toMillis();
    for (String index : config.getSubsections("index")) {
      long within = config.getTimeUnit("index", index, "commitWithin", longest, TimeUnit.MILLISECONDS);
      longest = Math.max(longest, within);
    }
    return Duration.ofMillis(longest);
  }
}
