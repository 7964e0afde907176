package io.lockstep.bridge.refresh;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.Duration;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What a Gerrit finds of its last life. */
final class LedgerTest {
  private static final Duration LONG = Duration.ofHours(1);

  @TempDir Path folder;

  private static List<JsonObject> tasks(int first, int last) {
    return IntStream.rangeClosed(first, last)
        .mapToObj(n -> "{'id':%d,'own':true,'attempt':%d,'kind':'account','account':%d}".formatted(n + 100, n, n))
        .map(text -> JsonParser.parseString(text).getAsJsonObject())
        .toList();
  }

  private static Set<Integer> accounts(List<JsonObject> tasks) {
    return tasks.stream().map(task -> task.get("account").getAsInt()).collect(Collectors.toCollection(TreeSet::new));
  }

  private Ledger begun(Duration span) throws Exception {
    Ledger ledger = new Ledger(folder, span);
    ledger.begin();
    return ledger;
  }

  @Test
  void whatWasKeptIsThereAfterACrashAndAfterTheNextOne() throws Exception {
    Ledger ledger = begun(LONG);
    ledger.keep(tasks(1, 3));
    ledger.keep(tasks(2, 4));
    for (int crash = 0; crash < 2; crash++) {
      List<JsonObject> found = new Ledger(folder, LONG).begin();
      assertEquals(4, found.size(), "each once: " + found);
      assertEquals(Set.of(1, 2, 3, 4), accounts(found));
      assertFalse(found.get(0).has("id"));
    }
  }

  @Test
  void whatLuceneHasCommittedLeaves() throws Exception {
    Ledger ledger = begun(Duration.ZERO);
    ledger.keep(tasks(1, 1));
    ledger.keep(tasks(2, 2));
    ledger.keep(tasks(3, 3));
    assertEquals(Set.of(2, 3), accounts(new Ledger(folder, LONG).begin()));
  }

  @Test
  void aLineThatWasCutOffIsNoTask() throws Exception {
    begun(LONG).keep(tasks(1, 2));
    Files.writeString(folder.resolve("now"), "{'kind':'acc", StandardOpenOption.APPEND);
    assertEquals(Set.of(1, 2), accounts(new Ledger(folder, LONG).begin()));
  }
}
