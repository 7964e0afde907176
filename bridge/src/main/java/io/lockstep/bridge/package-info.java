/**
 * The Gerrit module of Lockstep: every ref update of this server becomes one call to the sidecar a batch.
 *
 * <p>{@link io.lockstep.bridge.BridgeDbModule} takes over Gerrit's repository manager; {@link
 * io.lockstep.bridge.git} is what it puts in its place, {@link io.lockstep.bridge.sidecar} the way to the sidecar.
 * JGit's own checks and result codes are kept; only the step that would write a ref is another one. {@code Generation}
 * is the one place that knows Gerrit releases apart.
 */
package io.lockstep.bridge;
