package io.lockstep.bridge;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;

/**
 * The jar that an administrator installs for this release may be another one's: then both compile to the same bytes. Java
 * links by more than source shows; a class that became an interface compiles on both sides and fails where they meet.
 */
final class OneJarTest {
  @Test
  void theJarThatServesThisReleaseHasTheClassesThatWereCompiledAgainstIt() throws IOException {
    Path own = Path.of(System.getProperty("bridge.classes"));
    Path serving = Path.of(System.getProperty("bridge.same.classes"));
    Set<Path> classes = classes(own);
    assertFalse(classes.isEmpty());
    assertEquals(classes, classes(serving));
    for (Path one : classes) {
      byte[] bytes = Files.readAllBytes(own.resolve(one));
      assertArrayEquals(bytes, Files.readAllBytes(serving.resolve(one)), one.toString());
    }
  }

  private static Set<Path> classes(Path folder) throws IOException {
    try (var files = Files.walk(folder)) {
      return files
          .filter(file -> file.toString().endsWith(".class"))
          .map(folder::relativize)
          .collect(Collectors.toCollection(TreeSet::new));
    }
  }
}
